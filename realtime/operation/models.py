"""Running processes and their loops: a row for each process, which it writes itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import models
from django.utils import timezone

from instances.fields import JsonField

#: Seconds between two reports of a process in which nothing has changed.
INTERVAL = 15.0
#: The time after its last report from which a process counts as gone; it is shown for KEPT then.
GONE, KEPT = timedelta(seconds=4 * INTERVAL), timedelta(days=1)


class LoopState(NamedTuple):
    """A background loop of a process, as it was last reported."""

    name: str
    since: datetime
    restarts: int
    #: The last error and its time; empty and None before the first one.
    error: str
    failed_at: datetime | None


class SetAsideState(NamedTuple):
    """A row, an instance or an endpoint that a process leaves out, as it was last reported."""

    name: str
    since: datetime
    error: str


class Process(models.Model):
    """A process that runs background loops: a server or `manage.py deliver`."""

    id = models.CharField(primary_key=True, max_length=16)
    command = models.CharField(max_length=32)
    host = models.CharField(max_length=255)
    pid = models.IntegerField("process id")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField("last seen")
    ended = models.CharField(max_length=255, default="", help_text="Why it ended, if that was an error.")
    loops = JsonField(default=list)
    connections = models.IntegerField(
        default=0, db_default=0, help_text="Sockets and event streams at a time, at most, in the time of a report."
    )
    relay_lag_ms = models.IntegerField(
        "relay lag",
        default=0,
        db_default=0,
        help_text="Milliseconds from recording an event to emitting it, at most, in the time of a report.",
    )

    class Meta:
        verbose_name_plural = "processes"
        ordering = ("started_at", "id")

    def __str__(self) -> str:
        return f"{self.command}, process {self.pid} on {self.host}"

    @property
    def state(self) -> str:
        """A few words: running, ended or gone."""
        if self.ended:
            return f"ended: {self.ended}"
        return "running" if self.is_running else "gone without a word"

    @property
    def is_running(self) -> bool:
        return not self.ended and self.seen_at > timezone.now() - GONE

    @property
    def loop_states(self) -> list[LoopState]:
        return [
            LoopState(
                loop["name"],
                datetime.fromisoformat(loop["since"]),
                loop["restarts"],
                loop["error"],
                datetime.fromisoformat(loop["failed_at"]) if loop["failed_at"] else None,
            )
            for loop in self.loops
            if "name" in loop
        ]

    @property
    def set_aside(self) -> list[SetAsideState]:
        return [
            SetAsideState(each["name"], datetime.fromisoformat(each["since"]), each["error"])
            for item in self.loops
            for each in item.get("set_aside", ())
        ]
