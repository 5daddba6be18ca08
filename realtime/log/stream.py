"""The counters of the log: a row for each instance, and one for all of them together."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, models

from instances.models import Instance
from instances.sql import database_id
from realtime.envelope import EventNumber


def new_epoch() -> str:
    """Return a random id of a numbering: after a restored backup, or in a new instance of the name, numbers repeat."""
    return secrets.token_hex(8)


class StreamManager(models.Manager["Stream"]):
    def lock(self, instance: Instance) -> None:
        """Lock the instance's row until the transaction ends, creating it where there is none."""
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO realtime_stream (instance_id, name, epoch, first_seq, last_seq, heard_seq, heard_before)
                VALUES (%s, %s, %s, 1, 0, 0, 0)
                ON CONFLICT (instance_id) DO UPDATE SET name = excluded.name
                """,
                [database_id(instance.pk), instance.name, new_epoch()],
            )

    def next_numbers(self, instance: Instance, for_sockets: Sequence[bool]) -> list[EventNumber]:
        """Assign a number to each new event and lock the row until the transaction ends.

        `for_sockets` has an item for each event: whether sockets receive it.
        """
        last_index = max((index for index, is_wanted in enumerate(for_sockets, 1) if is_wanted), default=0)
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO realtime_stream (instance_id, name, epoch, first_seq, last_seq, heard_seq, heard_before)
                VALUES (%s, %s, %s, 1, %s, %s, 0)
                ON CONFLICT (instance_id) DO UPDATE SET
                    name = excluded.name,
                    last_seq = realtime_stream.last_seq + excluded.last_seq,
                    heard_before = realtime_stream.heard_seq,
                    heard_seq = CASE WHEN excluded.heard_seq > 0 THEN realtime_stream.last_seq + excluded.heard_seq
                                     ELSE realtime_stream.heard_seq END
                RETURNING epoch, last_seq, heard_before
                """,
                [database_id(instance.pk), instance.name, new_epoch(), len(for_sockets), last_index],
            )
            epoch, last_seq, prev = cursor.fetchone()
        numbers = []
        for seq, is_wanted in enumerate(for_sockets, last_seq - len(for_sockets) + 1):
            numbers.append(EventNumber(epoch, seq, prev))
            prev = seq if is_wanted else prev
        return numbers

    def state(self, instance_id: Any) -> Stream:
        """Return the instance's row, created where there is none. Raises Instance.DoesNotExist."""
        stream = self.filter(pk=instance_id).first()
        if stream is None:  # bulk_create announces no event
            name = Instance.objects.values_list("name", flat=True).get(pk=instance_id)
            stream, _ = self.get_or_create(pk=instance_id, defaults={"name": name})
        return stream

    def states(self, instance_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, tuple[str, int, int]]:
        """Return epoch, first and last seq by instance, for those that have a stream."""
        keys = {database_id(pk): pk for pk in instance_ids}
        if not keys:
            return {}
        ids = ", ".join(["%s"] * len(keys))
        # no ORM: thousands may join at once, and Django would take longer than the database
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT instance_id, epoch, first_seq, last_seq FROM realtime_stream WHERE instance_id IN ({ids})",  # noqa: S608
                list(keys),
            )
            return {keys[key]: (epoch, first, last) for key, epoch, first, last in cursor.fetchall()}

    def global_stream(self) -> Stream:
        """Return the row of all instances together, created where there is none; its epoch is that of namespace `/`."""
        return self.get_or_create(pk=GLOBAL_STREAM_ID, defaults={"name": "/"})[0]

    def global_floor(self) -> tuple[int, int]:
        """Return the highest transaction id and the highest row id that were ever pruned.

        No event is missing after a cursor that is past both, or whose `low` is past the transaction.
        """
        floor = self.filter(pk=GLOBAL_STREAM_ID).values_list("pruned_transaction", "pruned_row").first()
        return floor or (0, 0)


#: Primary key of the row of all instances together.
GLOBAL_STREAM_ID = uuid.UUID(int=0)


class Stream(models.Model):
    """The counter of an instance's events. It has no foreign key: it outlives the instance until its log is pruned.

    `heard_seq` is the seq of the last event for sockets, `heard_before` its value before the last write.
    """

    instance_id = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=255)
    epoch = models.CharField(max_length=16, default=new_epoch)
    first_seq = models.BigIntegerField(default=1, help_text="The oldest event that is still kept.")
    last_seq = models.BigIntegerField(default=0)
    heard_seq = models.BigIntegerField(default=0, help_text="The last event for sockets.")
    heard_before = models.BigIntegerField(default=0, help_text="What heard_seq was before the last events.")
    pruned_transaction = models.BigIntegerField(default=0, db_default=0, editable=False)
    pruned_row = models.BigIntegerField(default=0, db_default=0, editable=False)

    objects = StreamManager()

    def __str__(self) -> str:
        return f"{self.name}: {self.last_seq}"
