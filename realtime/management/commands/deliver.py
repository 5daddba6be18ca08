from __future__ import annotations

import asyncio
import signal
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from instances.ingress.memory import return_large_blocks
from realtime.database import check_database
from realtime.delivery.dispatcher import Dispatcher
from realtime.delivery.transports.base import transports
from realtime.operation.report import Report
from realtime.operation.supervisor import Supervisor
from realtime.operation.variables import warn_of_unknown_variables


class Command(BaseCommand):
    help = (
        "Send pending deliveries to webhooks and other endpoints until stopped. Several may run beside each other on "
        "PostgreSQL; the server itself delivers unless DELIVERY_EMBEDDED is false."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            check_database()
            transports()
        except ImproperlyConfigured as error:
            raise CommandError(f"Nothing can be delivered. {error}") from None
        warn_of_unknown_variables()
        return_large_blocks()
        self.stdout.write("Delivering (stop with Ctrl+C)")
        self.stdout.flush()
        if not asyncio.run(_deliver()):
            raise CommandError("Nothing is delivered any more: a loop has failed too often, the log says how")


async def _deliver() -> bool:
    """Deliver until a signal or a loop that fails too often; returns False for the latter."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    supervisor, dispatcher = Supervisor(), Dispatcher()
    report = Report(supervisor, "deliver")
    dispatcher.start(supervisor)
    supervisor.start("status", report.run_forever)
    await stopped.wait()
    await supervisor.stop()
    await dispatcher.stop()
    await report.end()
    return not supervisor.has_failed
