from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.utils import timezone

from instances.unreadable import readable
from realtime.operation.models import LoopState, Process

#: The time for which a failure of a loop counts as one of now.
RECENT = timedelta(minutes=1)


class Command(BaseCommand):
    help = (
        "Show the running processes and their background loops, as they have reported themselves. Fails if none is "
        "running, one has ended with an error or without a word, a loop has failed within the last minute, or "
        "something is set aside, such as a row that cannot be read."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            processes = readable(Process.objects.all())
        except DatabaseError as error:
            raise CommandError(f"The database does not answer: {error}") from None
        for process in processes:
            self.stdout.write(f"{process}: {process.state}")
            self.stdout.write(f"  started {_time(process.started_at)}, last seen {_time(process.seen_at)}")
            for loop in process.loop_states:
                self.stdout.write(f"  {loop.name:<20} {_loop(loop)}")
            for each in process.set_aside:
                self.stdout.write(f"  set aside: {each.name}, since {_time(each.since)}: {each.error}")
        running = [process for process in processes if process.is_running]
        if not running:
            raise CommandError("No process is running")
        if len(running) < len(processes) or any(map(_is_failing, running)):
            raise CommandError("Something has failed: see above, and the log")


def _loop(loop: LoopState) -> str:
    text = f"since {_time(loop.since)}, {loop.restarts} restarts"
    return f"{text}; {_time(loop.failed_at)}: {loop.error}" if loop.failed_at else text


def _is_failing(process: Process) -> bool:
    recently = timezone.now() - RECENT
    failed = any(loop.failed_at is not None and loop.failed_at > recently for loop in process.loop_states)
    return failed or bool(process.set_aside)


def _time(moment: Any) -> str:
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S")
