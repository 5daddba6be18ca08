from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from realtime.log.retention import prune


class Command(BaseCommand):
    help = "Remove the events that are older than EVENT_RETENTION_HOURS. The server also does so by itself, regularly."

    def handle(self, *args: Any, **options: Any) -> None:
        pruned = prune()
        self.stdout.write(
            f"Removed {pruned.events} events older than {settings.EVENT_RETENTION_HOURS} hours, "
            f"{pruned.keys} dedupe keys and the streams of {pruned.streams} deleted instances."
        )
