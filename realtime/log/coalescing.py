"""Coalescing of events that come faster than their type's interval: the first is emitted at once, then the latest.

All rows of an instance are read and written while its stream is locked, so the draft that decides is always the latest.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from django.conf import settings
from django.db import connection, models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from instances.events import EventType
from instances.unreadable import readable
from realtime.envelope import encode

#: Types that may be coalesced; the interval of each is the setting EVENT_COALESCE_<NAME>_MS.
COALESCIBLE = (EventType.CONNECTION_UPDATE, EventType.QRCODE_UPDATED, EventType.PRESENCE_UPDATE)
#: Types that keep their order among each other: a deferred code must not be emitted after "open".
_ORDERED = {EventType.CONNECTION_UPDATE, EventType.QRCODE_UPDATED}
#: Lifetime of a row without a deferred event: to keep it costs less than to delete and insert it again and again.
IDLE_LIFETIME = timedelta(minutes=1)
#: The resolution of the database's timestamps.
_TICK = timedelta(microseconds=1)


class EventDraft(NamedTuple):
    """An event to be recorded, without number and envelope."""

    event_type: EventType
    data: Any
    dedupe_key: str | None = None
    #: True if its deliveries are in the instance's backlog already, so none is dropped.
    is_admitted: bool = False
    #: Members of the envelope of its own (`check_extra`); types that are coalesced have none.
    extra: Mapping[str, Any] | None = None


def interval(event_type: EventType) -> timedelta:
    """Return the time in which at most one event of the type is emitted; zero where it is not coalesced."""
    if event_type not in COALESCIBLE:
        return timedelta(0)
    return timedelta(milliseconds=getattr(settings, f"EVENT_COALESCE_{event_type.name}_MS"))


def coalesced_types() -> list[EventType]:
    """Return the types that the settings have coalesced."""
    return [event_type for event_type in COALESCIBLE if interval(event_type)]


def database_time() -> datetime:
    """Return the database's time: the clocks of servers on several machines may differ."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        return cursor.fetchone()[0]


def _subject(draft: EventDraft) -> str:
    """Return the chat of a presence, since one chat's does not replace another's; for other types an empty string."""
    if draft.event_type != EventType.PRESENCE_UPDATE or not isinstance(draft.data, dict):
        return ""
    chat = draft.data.get("id")
    return chat.encode("utf-8", "replace").decode() if isinstance(chat, str) else ""


class BurstQuerySet(models.QuerySet["Burst"]):
    def deferred(self) -> BurstQuerySet:
        """Rows with a deferred event."""
        return self.filter(data__isnull=False)

    def due(self) -> BurstQuerySet:
        """Rows whose event is to be emitted, or that are to be deleted.

        A `due_at` too far in the future was written before the clock was set back, so it counts as due.
        """
        longest = max(map(interval, COALESCIBLE)) + IDLE_LIFETIME
        return self.filter(Q(due_at__lte=Now()) | Q(due_at__gt=Now() + 2 * longest))

    def of_uncoalesced_types(self) -> BurstQuerySet:
        """Rows of types that the settings no longer have coalesced: `BurstManager.defer` does not read them."""
        return self.exclude(type__in=coalesced_types())


def readable_bursts(bursts: models.QuerySet[Burst]) -> list[Burst]:
    """Return rows with deferred events, without those that cannot be read, or whose data is no JSON."""
    return readable(bursts, check=lambda burst: orjson.loads(burst.data or "null"))


class BurstManager(models.Manager.from_queryset(BurstQuerySet)):  # type: ignore[misc]
    def defer(self, instance_id: uuid.UUID, drafts: Sequence[EventDraft]) -> list[bool]:
        """Store the drafts that may not be emitted yet; return for each whether it is deferred.

        Either way an older deferred event of the same type and subject is dropped. The caller has locked the stream.
        """
        bursts = self._bursts(instance_id, drafts)
        if not bursts:
            return [False] * len(drafts)
        now = database_time()
        are_deferred = []
        changed: set[Burst] = set()
        for draft in drafts:
            burst = bursts.get(self._key(instance_id, draft))
            are_deferred.append(burst is not None and burst.defer(draft, now, bursts.values()))
            if burst is not None:
                changed.add(burst)
        self.store(changed)
        return are_deferred

    def store(self, bursts: Iterable[Burst]) -> None:
        """Insert or update these rows in one statement."""
        self.bulk_create(
            bursts,
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["told_at", "data", "dedupe_key", "due_at"],
        )

    def _bursts(self, instance_id: uuid.UUID, drafts: Sequence[EventDraft]) -> dict[uuid.UUID, Burst]:
        """Return by id the rows, stored or new, of the coalesced drafts and of the types in order with them."""
        bursts = {}
        for draft in self._with_ordered(drafts):
            if interval(draft.event_type):
                key = self._key(instance_id, draft)
                bursts[key] = Burst(id=key, instance_id=instance_id, type=draft.event_type.value)
        if not bursts:
            return {}
        # one that cannot be read is written anew
        return bursts | {burst.pk: burst for burst in readable(self.filter(pk__in=list(bursts)))}

    def _with_ordered(self, drafts: Sequence[EventDraft]) -> list[EventDraft]:
        if any(draft.event_type in _ORDERED for draft in drafts):
            return [*drafts, *(EventDraft(event_type, None) for event_type in _ORDERED)]
        return list(drafts)

    def _key(self, instance_id: uuid.UUID, draft: EventDraft) -> uuid.UUID:
        return uuid.uuid5(instance_id, f"{draft.event_type.value} {_subject(draft)}")


class Burst(models.Model):
    """Coalesced events of one instance, type and subject: the time of the last emitted one, and the deferred one.

    Events that come faster than the interval of their type are a burst, of which only the latest is deferred.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    instance_id = models.UUIDField()
    type = models.CharField(max_length=64)
    told_at = models.DateTimeField(null=True)
    data = models.TextField(null=True, help_text="The data of the deferred event, as JSON.")
    dedupe_key = models.CharField(max_length=600, null=True, help_text="The dedupe key of the deferred event.")
    due_at = models.DateTimeField(help_text="When the deferred event is emitted; without one, when the row is deleted.")

    objects = BurstManager()

    class Meta:
        indexes = (models.Index(fields=("due_at",), name="burst_due"),)

    def __str__(self) -> str:
        return f"{self.instance_id}: {self.type}"

    def defer(self, draft: EventDraft, now: datetime, bursts: Iterable[Burst]) -> bool:
        """Take the draft as the deferred event unless it may be emitted now; return whether it is deferred."""
        due_at = self._due_time(now, bursts)
        if due_at is None:
            self.mark_emitted(now)
            return False
        self.data = encode(draft.event_type.scrub(draft.data)).decode()
        self.dedupe_key, self.due_at = draft.dedupe_key, due_at
        return True

    def mark_emitted(self, now: datetime) -> None:
        """Begin a new interval: the deferred event, or a newer one, is emitted now."""
        self.told_at, self.due_at = now, now + interval(EventType(self.type)) + IDLE_LIFETIME
        self.data = self.dedupe_key = None

    def draft(self) -> EventDraft:
        """Return the deferred event, without its dedupe key: that was stored when the event was deferred."""
        return EventDraft(EventType(self.type), orjson.Fragment(self.data or "null"))

    def _due_time(self, now: datetime, bursts: Iterable[Burst]) -> datetime | None:
        """Return the earliest time at which an event may be emitted, None for now."""
        times = []
        if self.told_at is not None and self.told_at <= now:  # a later one was written before the clock was set back
            times.append(self.told_at + interval(EventType(self.type)))
        if self.type in _ORDERED:
            others = [
                burst for burst in bursts if burst is not self and burst.type in _ORDERED and burst.data is not None
            ]
            times += [burst.due_at + _TICK for burst in others]
            if others:
                return max(times)
        return max((time for time in times if time > now), default=None)
