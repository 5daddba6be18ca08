"""From a message to its events, from an event to its deliveries, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from django.db.models import Model, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Length
from django.utils.html import format_html

from instances.access.staff import within_limit
from instances.admin import admin_url
from instances.models import Message
from realtime.log.models import DedupeKey, Event
from realtime.log.stream import Stream

#: Events that are listed for one WhatsApp id, at most.
MAX_EVENTS = 100
#: Instances whose ids a query lists.
MAX_LISTED = 200
#: Instances in which a `seq` behind a part of their names is looked up, those with the shortest names first.
MAX_WITH_SEQ = 1000
SEARCH_HELP = (
    "Instance name, WhatsApp id of a message, id of an event, or its seq "
    f"(also behind a name, in up to {MAX_WITH_SEQ:,} instances)"
)

_EVENT_ID = re.compile(r"([0-9a-f]{16})\.([0-9]{1,18})")
_SEQ = re.compile("[0-9]{1,18}")


class EventTerm(NamedTuple):
    """An event that a search may mean: by the epoch of its stream, or by a part of its instance's name, and its `seq`.

    The name is empty for a `seq` alone.
    """

    seq: int
    name: str = ""
    epoch: str = ""


def event_term(term: str) -> EventTerm | None:
    """Return the event that a term of a search means; None for one that is no event's."""
    if event := _EVENT_ID.fullmatch(term):
        return EventTerm(int(event[2]), epoch=event[1])
    name, _, number = term.rpartition(" ")
    return EventTerm(int(number), name) if _SEQ.fullmatch(number) else None


def link(model: type[Model], pk: Any, text: Any) -> str:
    """Return a link to the page of a row."""
    return format_html('<a href="{}">{}</a>', admin_url("change", model, pk), text)


def search(queryset: QuerySet[Any], term: str, user: Any) -> QuerySet[Any]:
    """Search events or deliveries by the id of an event, a `seq`, a WhatsApp id or an instance's name.

    `queryset` has what the user may see; no other messages are searched. Each is looked up in an
    index: by streams, one for an instance, or by messages and dedupe keys.
    """
    term = term.strip()
    if not term:
        return queryset
    event = event_term(term)
    if event and event.epoch:
        streams = Stream.objects.filter(epoch=event.epoch)
        return queryset.filter(instance_id__in=streams.values("pk"), seq=event.seq)
    found = [Q(instance_id=pk, seq=seq) for pk, seq in _seqs_about(term, user)]
    if not found or event:  # digits may be a WhatsApp id and a `seq`
        found.append(_of_instances(term))
    if event:
        found.append(_of_instances(event.name, event.seq))
    return queryset.filter(reduce(or_, found))


def _of_instances(name: str, seq: int | None = None) -> Q:
    """Return the condition that the instance's name contains this; with a `seq`, that the event has it, too.

    Ids are listed where they are few: with a subquery PostgreSQL would read the entire table to find their few rows.
    """
    streams = Stream.objects.filter(name__icontains=name)
    if seq is not None:
        streams = streams.filter(last_seq__gte=seq).order_by(Length("name"), "name")
        return Q(instance_id__in=list(streams.values_list("pk", flat=True)[:MAX_WITH_SEQ]), seq=seq)
    ids = list(streams.values_list("pk", flat=True)[: MAX_LISTED + 1])
    return Q(instance_id__in=ids if len(ids) <= MAX_LISTED else streams.values("pk"))


def _seqs_about(wa_id: str, user: Any) -> Iterator[tuple[Any, int | None]]:
    """Yield instance and `seq` of the events about a message, by its WhatsApp id.

    A subquery for each stream uses the index of messages, where a join might read the table.
    """
    of_stream = Message.objects.filter(instance_id=OuterRef("pk"), wa_id=wa_id).order_by().values("pk")[:1]
    streams = within_limit(user, Stream.objects.all(), "pk").annotate(found=Subquery(of_stream)).exclude(found=None)
    ids = list(streams.order_by().values_list("found", flat=True)[:MAX_EVENTS])
    messages = Message.objects.filter(pk__in=ids).only("instance_id", "wa_id", "remote_jid", "participant")
    for message in messages.order_by():
        keys = DedupeKey.objects.filter(instance_id=message.instance_id, key__in=message.event_keys())
        yield from keys.exclude(seq=None).values_list("instance_id", "seq")[:MAX_EVENTS]


def event_id_of(event: Event) -> str:
    """Return the id of an event, as clients receive it; "" for one whose stream was begun anew since."""
    stream = Stream.objects.filter(pk=event.instance_id).first()
    return f"{stream.epoch}.{event.seq}" if stream else ""


def message_of(event: Event) -> Message | None:
    """Return the message that an event is about, if it is stored."""
    try:
        data = json.loads(bytes(event.envelope)).get("data")
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    key = data.get("key")
    wa_id = key.get("id") if isinstance(key, dict) else data.get("keyId")
    if not isinstance(wa_id, str):
        return None
    return Message.objects.filter(instance_id=event.instance_id, wa_id=wa_id).first()
