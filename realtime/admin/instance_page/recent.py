"""The newest events of an instance by type, and its state in words.

No index has the types of events, so these are looked for among the last LOOKED_BACK ones.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import BinaryField, Case, F, IntegerField, Max, Subquery, When
from django.db.models.functions import Length

from instances import json_body
from instances.events import EventType
from instances.models import ConnectionState, Instance
from realtime.counters.hours import time_of
from realtime.counters.models import InstanceHour
from realtime.log.models import Event
from realtime.log.stream import Stream

#: Events that are looked through.
LOOKED_BACK = 1000
#: Bytes of an envelope that is read.
MAX_ENVELOPE = 512 * 1024

#: Codes of closed connections, as engines for WhatsApp Web report them.
REASONS = {
    401: "logged out of WhatsApp",
    403: "WhatsApp has blocked the number",
    408: "the connection was lost",
    411: "the phone's multi-device mode is off",
    428: "the connection was closed",
    440: "another program has taken over the session",
    500: "the session is broken",
    503: "WhatsApp is unavailable",
    515: "the engine has to restart",
}


class RecentEvent(NamedTuple):
    """An event with its data; None for data that is too large to look at, or no JSON."""

    seq: int
    at: datetime
    data: Any


def recent_events(instance: Instance, *types: EventType) -> dict[EventType, RecentEvent]:
    """Return the newest event of each of these types, where there is one among the last events; one query."""
    last_seq = Subquery(Stream.objects.filter(pk=instance.pk).values("last_seq")[:1])
    rows = Event.objects.filter(
        instance_id=instance.pk, seq__gt=last_seq - LOOKED_BACK, type__in=[each.value for each in types]
    )
    newest = rows.order_by().values("type").annotate(newest=Max("seq")).values("newest")
    size = Length("envelope", output_field=IntegerField())
    read = Case(When(size__lte=MAX_ENVELOPE, then=F("envelope")), default=None, output_field=BinaryField())
    found = Event.objects.filter(instance_id=instance.pk, seq__in=newest).annotate(size=size, read=read)
    return {
        EventType(kind): RecentEvent(seq, at, _data(envelope))
        for kind, seq, at, envelope in found.order_by().values_list("type", "seq", "created_at", "read")
    }


def _data(envelope: Any) -> Any:
    try:
        value = json_body.load_stored(bytes(envelope)) if envelope is not None else None
    except (ValueError, TypeError):
        return None
    return value.get("data") if isinstance(value, dict) else None


class ShownState(NamedTuple):
    """The state of a connection, since when, and why."""

    #: `open`, `connecting` or `close`.
    value: str
    #: The state in a word.
    word: str
    since: datetime | None
    #: A few words; empty where nothing is known, and for one that is open.
    reason: str


def shown_state(instance: Instance) -> ShownState:
    """Return the state of an instance in words, from its row and its last reports."""
    state = instance.connection_state
    if instance.logged_out_at:
        return ShownState(state, "logged out", instance.logged_out_at, "by a request to this server")
    word = {ConnectionState.CLOSE.value: "closed"}.get(state, state)
    recent = recent_events(instance, EventType.CONNECTION_UPDATE, EventType.STATUS_INSTANCE)
    update, end = recent.get(EventType.CONNECTION_UPDATE), recent.get(EventType.STATUS_INSTANCE)
    since = update.at if update else _counted_update(instance)
    reason = ""
    if state == ConnectionState.CLOSE:
        codes = [_code(update, "statusReason"), _code(end, "disconnectionReasonCode")]
        reason = next((REASONS.get(code, f"code {code}") for code in codes if code not in (None, 200)), "")
    return ShownState(state, word, since, reason)


def _code(event: RecentEvent | None, member: str) -> int | None:
    code = event.data.get(member) if event and isinstance(event.data, dict) else None
    return code if isinstance(code, int) and abs(code) < 10_000 else None


def _counted_update(instance: Instance) -> datetime | None:
    """Return the time of the last change of the connection that was counted, some seconds behind the log."""
    rows = InstanceHour.objects.filter(instance_id=instance.pk)
    return time_of(rows.aggregate(last=Max("connection_updated"))["last"])
