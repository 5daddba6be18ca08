"""Data for the console's page: earlier events, their states, names of instances, and tokens for its sockets."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import orjson
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from instances.access.rights import LISTEN, SEND
from instances.access.staff import visible_instances
from instances.access.staff_session import mint_for_session
from instances.bounds import CONSOLE_EVENTS
from instances.models import Instance
from instances.numbers import whole_number
from instances.timestamps import iso
from realtime.delivery.models import Delivery
from realtime.envelope import event_id
from realtime.fanout.offset import Offset
from realtime.fanout.recovery import ReplayRange
from realtime.log import history
from realtime.log.cursor import Cursor
from realtime.log.models import Event, EventQuerySet
from realtime.log.paging import page_of_all
from realtime.log.stream import Stream
from realtime.pages.console.access import ConsoleRights, console_view, visible_instance
from realtime.pages.staff import staff_page

#: Rows whose states are asked for at a time, at most: those that a screen shows.
MAX_STATES = 200
#: Names of instances in one answer to a search.
MAX_NAMES = 20


@require_POST
@staff_page
def token(request: HttpRequest, name: str | None = None) -> HttpResponse:
    """Mint a token for the page's socket: for an instance's namespace, or for `/`.

    A refusal is an answer like another, with a null `token` and the reason: a page asks when it was disconnected.
    """
    rights = ConsoleRights.of(request.user)
    try:
        instance = None if name is None else visible_instance(request.user, name)
        minted = mint_for_session(request, instance, [LISTEN, SEND] if rights.may_send else [LISTEN])
    except Http404:
        return _json({"token": None, "reason": "The instance was deleted or renamed, or you may not see it any more."})
    except PermissionDenied as error:
        return _json({"token": None, "reason": f"{error}."})
    return _json({"token": minted.text, "expiresAt": iso(minted.expires_at), "now": iso(timezone.now())})


@require_GET
@console_view
def events(request: HttpRequest, rights: ConsoleRights, name: str | None = None) -> HttpResponse:
    """Return earlier events with their envelopes, and the offset from which a socket goes on without a gap."""
    if not rights.may_listen or (name is None and not rights.sees_all):
        raise PermissionDenied
    return _events_of_all(request) if name is None else _events_of(request, visible_instance(request.user, name))


def _events_of(request: HttpRequest, instance: Instance) -> HttpResponse:
    replay = ReplayRange.of_instances([instance.pk])[instance.pk]
    head = replay.head if isinstance(replay.head, int) else 0
    upto = Offset.parse(request.GET.get("upto"))
    if upto is not None and upto.epoch == replay.epoch and isinstance(upto.position, int):
        head = min(head, upto.position)
    before = _number(request, "before")
    after = _number(request, "after")
    page = history.page(instance.pk, _limit(request), after=after, before=head + 1 if before is None else before)
    older = _seq(page.envelopes[0]) if page.envelopes and after is None and page.has_more else None
    return _history(page.envelopes, older, Offset(replay.epoch, head), page.has_more)


def _events_of_all(request: HttpRequest) -> HttpResponse:
    replay = ReplayRange.of_all()
    upto = Offset.parse(request.GET.get("upto"))
    is_known = upto is not None and upto.epoch == replay.epoch and isinstance(upto.position, Cursor)
    head: Any = upto.position if upto is not None and is_known else replay.head
    page = history.last_events_of_all(_limit(request), head, _number(request, "before"))
    return _history(page.envelopes, page.older, Offset(replay.epoch, head), page.older is not None)


def _history(envelopes: list[bytes], older: int | None, offset: Offset, has_more: bool) -> HttpResponse:
    """Return the answer with these events. `older`: the `before` of the events before them, None without any."""
    found = [orjson.Fragment(envelope) for envelope in envelopes]
    return _json({"events": found, "older": older, "offset": str(offset), "hasMore": has_more})


def _seq(envelope: bytes) -> int:
    # its last members, behind all data, so that nothing large is parsed
    return int(envelope[envelope.rindex(b'"seq":') + 6 :].partition(b",")[0])


@require_GET
@console_view
def rows(request: HttpRequest, rights: ConsoleRights, name: str | None = None) -> HttpResponse:
    """Return events without their content: instance, type, time. `after`: the `next` of an earlier answer."""
    if name is None:
        if not rights.sees_all:
            raise PermissionDenied
        found, position = _rows_of_all(request)
    else:
        found, position = _rows_of(request, visible_instance(request.user, name))
    return _json({"rows": found, "next": str(position), "now": iso(timezone.now())})


_ROW = ("pk", "instance_id", "name", "seq", "type", "created_at")


def _rows_of(request: HttpRequest, instance: Instance) -> tuple[list[dict[str, Any]], Offset]:
    stream = Stream.objects.state(instance.pk)
    heard = Event.objects.filter(instance_id=instance.pk, is_heard=True, seq__lte=stream.last_seq)
    after = Offset.parse(request.GET.get("after"))
    if after is None or after.epoch != stream.epoch or not isinstance(after.position, int):
        found = list(heard.order_by("-seq").values_list(*_ROW)[: _limit(request)])[::-1]
        position = stream.last_seq
    else:
        found = list(heard.filter(seq__gt=after.position).order_by("seq").values_list(*_ROW)[:CONSOLE_EVENTS])
        position = found[-1][3] if len(found) == CONSOLE_EVENTS else stream.last_seq
    return _rows(found), Offset(stream.epoch, position)


def _rows_of_all(request: HttpRequest) -> tuple[list[dict[str, Any]], Offset]:
    epoch = Stream.objects.global_stream().epoch
    after = Offset.parse(request.GET.get("after"))
    if after is None or after.epoch != epoch or not isinstance(after.position, Cursor):
        head = Event.objects.head()
        last = Event.objects.past(head).filter(is_heard=True).order_by("-pk")
        newest = Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        recent: EventQuerySet = last.filter(pk__gt=newest - history.LOOKED_THROUGH)
        return _rows(list(recent.values_list(*_ROW)[: _limit(request)])[::-1]), Offset(epoch, head)
    page = page_of_all(after.position, with_envelopes=False)
    pks = [entry.pk for _, entry in page.entries]
    found = Event.objects.filter(pk__in=pks, is_heard=True).order_by("pk")
    return _rows(list(found.values_list(*_ROW))), Offset(epoch, page.end)


def _rows(found: list[Any]) -> list[dict[str, Any]]:
    epochs = Stream.objects.states({row[1] for row in found})
    return [
        {
            "instance": name,
            "id": event_id(epochs[instance_id][0], seq) if instance_id in epochs else "",
            "seq": seq,
            "event": event_type,
            "date_time": iso(created_at),
        }
        for _, instance_id, name, seq, event_type, created_at in found
    ]


@require_GET
@console_view
def states(request: HttpRequest, rights: ConsoleRights) -> HttpResponse:
    """Return how many deliveries of some events are in which state; `of` names each event as `seq@instance`."""
    if not rights.sees_deliveries:
        raise PermissionDenied
    seqs: dict[str, set[int]] = defaultdict(set)
    for text in request.GET.getlist("of")[:MAX_STATES]:
        seq, _, name = text.partition("@")
        if (number := whole_number(seq)) is not None and "\x00" not in name:
            seqs[name].add(number)
    names = dict(visible_instances(request.user).filter(name__in=list(seqs)).values_list("pk", "name"))
    wanted = Q(pk__in=[])
    for pk, name in names.items():
        wanted |= Q(instance_id=pk, seq__in=seqs[name])
    found: dict[str, dict[str, int]] = defaultdict(dict)
    rows = (
        Delivery.objects.visible_to(request.user).filter(wanted).order_by().values_list("instance_id", "seq", "state")
    )
    for instance_id, seq, state, count in rows.annotate(count=Count("pk")):
        found[f"{seq}@{names[instance_id]}"][state] = count
    return _json({"states": found})


@require_GET
@console_view
def names(request: HttpRequest, rights: ConsoleRights) -> HttpResponse:
    """Return some visible instances whose names contain `q`."""
    query = request.GET.get("q", "").replace("\x00", "")
    found = visible_instances(request.user).filter(name__icontains=query).order_by("name")
    values = found.values_list("name", "integration")[:MAX_NAMES]
    return _json({"instances": [{"name": name, "integration": integration} for name, integration in values]})


def _number(request: HttpRequest, name: str) -> int | None:
    """Return a number in the query, None for none. Raises Http404 for what is none."""
    text = request.GET.get(name, "")
    number = whole_number(text)
    if text and number is None:
        raise Http404
    return number


def _limit(request: HttpRequest) -> int:
    return max(1, min(_number(request, "limit") or 100, CONSOLE_EVENTS))


def _json(value: Any) -> HttpResponse:
    return HttpResponse(orjson.dumps(value), content_type="application/json")
