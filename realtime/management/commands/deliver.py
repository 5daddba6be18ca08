from __future__ import annotations

import asyncio
import signal
from typing import Any

from django.core.management.base import BaseCommand

from realtime.delivery.dispatcher import Dispatcher


class Command(BaseCommand):
    help = (
        "Send pending deliveries to webhooks and other endpoints until stopped. Several may run beside each other on "
        "PostgreSQL; the server itself delivers unless DELIVERY_EMBEDDED is false."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write("Delivering (stop with Ctrl+C)")
        asyncio.run(self._deliver())

    async def _deliver(self) -> None:
        dispatcher = asyncio.ensure_future(Dispatcher().run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, dispatcher.cancel)
        await asyncio.gather(dispatcher, return_exceptions=True)
