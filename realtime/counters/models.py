"""Hourly counts. They hold what has been counted: the loop is some seconds behind the log (`CounterPosition`).

An `hour` is a whole number of hours since 1970 in UTC (`realtime.counters.hours`). Rows without anything to count are
not written, and rows are deleted after COUNTED_HOURS. They have no foreign keys: an instance's hours outlive it.
"""

from __future__ import annotations

from django.db import models

#: Characters of an error that are kept.
MAX_ERROR = 200


class InstanceHour(models.Model):
    """The events of an instance in an hour."""

    instance_id = models.UUIDField()
    hour = models.IntegerField()
    events = models.IntegerField(default=0)
    drop_notices = models.IntegerField(
        default=0, help_text="Events deliveries.dropped: at most one an hour for each backlog that was full."
    )
    connection_updated = models.BigIntegerField(
        null=True, help_text="The last event connection.update, in seconds since 1970."
    )

    class Meta:
        constraints = (models.UniqueConstraint(fields=("instance_id", "hour"), name="instance_hour_is_counted_once"),)
        indexes = (
            models.Index(fields=("hour",), name="instance_hour"),
            models.Index(fields=("hour",), condition=models.Q(drop_notices__gt=0), name="instance_hour_dropped"),
        )

    def __str__(self) -> str:
        return f"{self.instance_id}, hour {self.hour}: {self.events}"


class DeliveryCounts(models.Model):
    """Attempts in an hour: their number by outcome, and how long they took."""

    delivered = models.IntegerField(default=0, help_text="Attempts that succeeded.")
    failed = models.IntegerField(default=0, help_text="Attempts that failed, the last ones of dead deliveries too.")
    dead = models.IntegerField(default=0, help_text="Deliveries that were given up after an attempt.")
    latency_ms = models.BigIntegerField("latency", default=0, help_text="Milliseconds of all attempts together.")
    max_latency_ms = models.IntegerField("longest latency", default=0, help_text="Milliseconds of the longest attempt.")

    class Meta:
        abstract = True

    @property
    def attempts(self) -> int:
        return self.delivered + self.failed

    @property
    def mean_latency_ms(self) -> float | None:
        """Milliseconds of an attempt on average; None without any."""
        return self.latency_ms / self.attempts if self.attempts else None

    @property
    def success_rate(self) -> float | None:
        """The part of the attempts that succeeded, from 0 to 1; None without any."""
        return self.delivered / self.attempts if self.attempts else None


class EndpointHour(DeliveryCounts):
    """The attempts to an endpoint in an hour."""

    endpoint_id = models.BigIntegerField()
    instance_id = models.UUIDField(null=True, help_text="Empty for an endpoint of all instances.")
    hour = models.IntegerField()
    last_error = models.CharField(max_length=MAX_ERROR, default="", help_text="The last failure of the hour.")

    class Meta:
        constraints = (models.UniqueConstraint(fields=("endpoint_id", "hour"), name="endpoint_hour_is_counted_once"),)
        indexes = (
            models.Index(fields=("hour",), name="endpoint_hour"),
            models.Index(fields=("instance_id", "hour"), name="endpoint_hour_of_instance"),
        )

    def __str__(self) -> str:
        return f"{self.endpoint_id}, hour {self.hour}: {self.attempts}"


class HourTotal(DeliveryCounts):
    """An hour of all instances, endpoints and processes together."""

    hour = models.IntegerField(primary_key=True)
    events = models.IntegerField(default=0)
    drop_notices = models.IntegerField(default=0)
    connections = models.IntegerField(default=0, help_text="Sockets and event streams at a time, at most.")
    relay_lag_ms = models.IntegerField(
        "relay lag", default=0, help_text="Milliseconds from recording an event to emitting it, at most."
    )
    # rows of the log and of attempts in this hour, so that lists find them by an index
    first_event = models.BigIntegerField(null=True)
    last_event = models.BigIntegerField(null=True)
    first_attempt = models.BigIntegerField(null=True)
    last_attempt = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return f"hour {self.hour}: {self.events}"


class CounterPosition(models.Model):
    """The one row that says how far the log and the attempts have been counted, and by which process.

    It moves in the transaction that adds the counts, from the position that was read before: of two processes that
    count the same page, one finds it moved, and adds nothing.
    """

    #: The only primary key.
    ID = 1

    # a Cursor in the log
    low = models.BigIntegerField()
    high = models.BigIntegerField()
    row = models.BigIntegerField()
    attempt = models.BigIntegerField(help_text="The last attempt that was counted.")
    counted_by = models.CharField(max_length=16, default="")
    counted_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"event {self.row}, attempt {self.attempt}"
