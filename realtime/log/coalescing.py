"""What comes faster than it is to be told: of a burst the first one goes out at once, then the latest of each interval.

All rows of an instance are read and written while its stream is locked, so what decides is always the latest.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from django.conf import settings
from django.db import connection, models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from instances.events import EventType
from realtime.envelope import encode

#: Types that may be coalesced; of each, EVENT_COALESCE_<NAME>_MS says how.
COALESCIBLE = (EventType.CONNECTION_UPDATE, EventType.QRCODE_UPDATED, EventType.PRESENCE_UPDATE)
#: Told in the order in which they happened: a code that waited must not appear after "open".
_ORDERED = {EventType.CONNECTION_UPDATE, EventType.QRCODE_UPDATED}
#: How long a row stays when nothing waits in it: to keep it costs less than to remove it again and again.
KEPT = timedelta(minutes=1)
_A_MOMENT = timedelta(microseconds=1)


class EventDraft(NamedTuple):
    """What the log is told of."""

    event_type: EventType
    data: Any
    dedupe_key: str | None = None


def interval(event_type: EventType) -> timedelta:
    """At most one event of this type is told in so long; zero tells all."""
    if event_type not in COALESCIBLE:
        return timedelta(0)
    return timedelta(milliseconds=getattr(settings, f"EVENT_COALESCE_{event_type.name}_MS"))


def coalesced() -> list[EventType]:
    """The types of which not all are told."""
    return [event_type for event_type in COALESCIBLE if interval(event_type)]


def clock() -> datetime:
    """The database's: servers on several machines may disagree on the time."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        return cursor.fetchone()[0]


def _subject(draft: EventDraft) -> str:
    """Whom it is about: the presence of one chat does not replace another's."""
    if draft.event_type != EventType.PRESENCE_UPDATE or not isinstance(draft.data, dict):
        return ""
    chat = draft.data.get("id")
    return chat.encode("utf-8", "replace").decode() if isinstance(chat, str) else ""


class BurstQuerySet(models.QuerySet["Burst"]):
    def waiting(self) -> BurstQuerySet:
        """Those in which something waits to be told."""
        return self.filter(data__isnull=False)

    def due(self) -> BurstQuerySet:
        """Those that something is to be done with. A time that lies too far ahead is of a clock that was set back."""
        longest = max(map(interval, COALESCIBLE)) + KEPT
        return self.filter(Q(due_at__lte=Now()) | Q(due_at__gt=Now() + 2 * longest))

    def of_uncoalesced_types(self) -> BurstQuerySet:
        """Left behind by settings that were others: whoever tells of these types does not look here any more."""
        return self.exclude(type__in=coalesced())


class BurstManager(models.Manager.from_queryset(BurstQuerySet)):  # type: ignore[misc]
    def defer(self, instance_id: uuid.UUID, drafts: Sequence[EventDraft]) -> list[bool]:
        """Whether each of these is to wait, and then it does; the others are to be told now.

        Either way what waited of the same is dropped, since it is older. The caller has locked the stream.
        """
        bursts = self._bursts(instance_id, drafts)
        if not bursts:
            return [False] * len(drafts)
        now = clock()
        are_held = []
        changed: set[Burst] = set()
        for draft in drafts:
            burst = bursts.get(self._key(instance_id, draft))
            are_held.append(burst is not None and burst.take(draft, now, bursts.values()))
            if burst is not None:
                changed.add(burst)
        self.store(changed)
        return are_held

    def store(self, bursts: Any) -> None:
        self.bulk_create(
            bursts,
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["told_at", "data", "dedupe_key", "due_at"],
        )

    def _bursts(self, instance_id: uuid.UUID, drafts: Sequence[EventDraft]) -> dict[uuid.UUID, Burst]:
        """The rows of those that are coalesced, stored or new, and of what has to keep an order with them."""
        bursts = {}
        for draft in self._with_ordered(drafts):
            if interval(draft.event_type):
                key = self._key(instance_id, draft)
                bursts[key] = Burst(id=key, instance_id=instance_id, type=draft.event_type.value)
        return bursts | self.in_bulk(list(bursts)) if bursts else {}

    def _with_ordered(self, drafts: Sequence[EventDraft]) -> list[EventDraft]:
        if any(draft.event_type in _ORDERED for draft in drafts):
            return [*drafts, *(EventDraft(event_type, None) for event_type in _ORDERED)]
        return list(drafts)

    def _key(self, instance_id: uuid.UUID, draft: EventDraft) -> uuid.UUID:
        return uuid.uuid5(instance_id, f"{draft.event_type.value} {_subject(draft)}")


class Burst(models.Model):
    """Of one instance, type and subject: when the last one was told, and which one waits."""

    id = models.UUIDField(primary_key=True, editable=False)
    instance_id = models.UUIDField()
    type = models.CharField(max_length=64)
    told_at = models.DateTimeField(null=True)
    data = models.TextField(null=True, help_text="What waits, as JSON.")
    dedupe_key = models.CharField(max_length=600, null=True, help_text="Of what waits.")
    due_at = models.DateTimeField(help_text="When what waits is told; where nothing waits, when the row goes.")

    objects = BurstManager()

    class Meta:
        indexes = (models.Index(fields=("due_at",), name="burst_due"),)

    def __str__(self) -> str:
        return f"{self.instance_id}: {self.type}"

    def take(self, draft: EventDraft, now: datetime, bursts: Any) -> bool:
        """Let this wait if it must; returns whether it does."""
        due_at = self._earliest(now, bursts)
        if due_at is None:
            self.mark_emitted(now)
            return False
        self.data = encode(draft.event_type.scrub(draft.data)).decode()
        self.dedupe_key, self.due_at = draft.dedupe_key, due_at
        return True

    def mark_emitted(self, now: datetime) -> None:
        """What waits, or something newer, is told now."""
        self.told_at, self.due_at = now, now + interval(EventType(self.type)) + KEPT
        self.data = self.dedupe_key = None

    def waiting(self) -> EventDraft:
        """What waits; its key was stored when it came."""
        return EventDraft(EventType(self.type), orjson.Fragment(self.data or "null"))

    def _earliest(self, now: datetime, bursts: Any) -> datetime | None:
        """When it may be told, if not now."""
        times = []
        if self.told_at is not None and self.told_at <= now:  # or else the clock was set back
            times.append(self.told_at + interval(EventType(self.type)))
        if self.type in _ORDERED:
            others = [one for one in bursts if one is not self and one.type in _ORDERED and one.data is not None]
            times += [one.due_at + _A_MOMENT for one in others]
            if others:
                return max(times)
        return max((time for time in times if time > now), default=None)
