from __future__ import annotations

import asyncio
import signal
from typing import Any

from django.core.management.base import BaseCommand

from realtime.delivery.dispatcher import Dispatcher


class Command(BaseCommand):
    help = (
        "Send what webhooks and other endpoints are owed, until told to stop. Several may run beside each other on "
        "PostgreSQL; the server does so by itself unless DELIVERY_EMBEDDED is false."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write("Delivering (stop with Ctrl+C)")
        asyncio.run(self._deliver())

    async def _deliver(self) -> None:
        delivering = asyncio.ensure_future(Dispatcher().run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, delivering.cancel)
        await asyncio.gather(delivering, return_exceptions=True)
