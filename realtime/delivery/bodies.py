"""Bodies: the bytes of an event as a transport sends them, stored once for all deliveries of the event."""

from __future__ import annotations

from collections.abc import Collection
from weakref import WeakValueDictionary

from django.db import connection, models

from instances.unreadable import readable
from realtime.delivery.concurrency import LARGE
from realtime.delivery.payload import Payload

#: Large bodies that are being sent, by key: another delivery that shares one does not read it again.
_in_memory: WeakValueDictionary[tuple[str, str], Body] = WeakValueDictionary()


class BodyManager(models.Manager["Body"]):
    def by_key(self, keys: Collection[tuple[str, str]], is_careful: bool = False) -> dict[tuple[str, str], Body]:
        """Return the bodies of these pairs of event id and transport, each read once; `is_careful` as in `readable`."""
        loaded = {key: body for key in keys if (body := _in_memory.get(key))}
        missing = [key for key in keys if key not in loaded]
        if missing:
            event_ids, transports = ({key[column] for key in missing} for column in (0, 1))
            for body in readable(self.filter(event_id__in=event_ids, transport__in=transports), is_careful=is_careful):
                loaded[body.key] = body
                if len(body.data) > LARGE:
                    _in_memory[body.key] = body
                    connection.close_at = 0  # its buffers and pages are as large; see evoapi/large_values.py
        return loaded


class Body(models.Model):
    """The body of an event in the format of a transport, without what differs between endpoints.

    It is shared by all deliveries of the event, resent and test ones too, and deleted with the last of them, not with
    the event. A delivery's own part is put in at `offset`.
    """

    event_id = models.CharField(max_length=64)
    transport = models.CharField(max_length=32)
    data = models.BinaryField()
    offset = models.IntegerField()

    objects = BodyManager()

    class Meta:
        verbose_name_plural = "bodies"
        constraints = (models.UniqueConstraint(fields=("event_id", "transport"), name="body_is_stored_once"),)

    def __str__(self) -> str:
        return f"{self.event_id} by {self.transport}"

    @property
    def key(self) -> tuple[str, str]:
        return self.event_id, self.transport

    def with_part(self, part: bytes) -> Payload:
        """Return the complete bytes of a delivery whose own part this is."""
        data = memoryview(self.data)
        return Payload(data[: self.offset], part, data[self.offset :]) if part else Payload(self.data)
