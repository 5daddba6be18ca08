"""The parts of an instance's page: timeline, subscriptions, endpoints, keys and sockets, each by few queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib import admin
from django.db.models import Case, Count, F, Q, When
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from instances.access.rights import Action, may
from instances.admin import admin_url
from instances.admin.event_checkboxes import readonly_checkboxes
from instances.models import ApiKey, Instance, Subscription
from realtime.admin.connected import connected_url, selection_for
from realtime.admin.health import latency, success
from realtime.admin.overview.hour_filters import DAY_HOURS
from realtime.counters.figures import figures_of_endpoints
from realtime.counters.hours import last_hours
from realtime.delivery.models import Delivery, State, pending_counts
from realtime.envelope import event_id
from realtime.fanout.connected import ClientPage, Connected, NotServing
from realtime.log.models import Event
from realtime.log.stream import Stream

#: Events of the timeline, endpoints, keys and sockets that the page shows.
EVENTS, ENDPOINTS, KEYS, SOCKETS = 30, 20, 10, 10

#: The words of the states of deliveries, and the classes of the bad ones.
_STATES = {
    State.DELIVERED.value: ("delivered", "good"),
    State.PENDING.value: ("waiting", "warn"),
    State.DEAD.value: ("failed", "bad"),
    State.DROPPED.value: ("dropped", "bad"),
}


class OutcomeCount(NamedTuple):
    """Deliveries of an event in one state."""

    number: int
    word: str
    css: str
    url: str


@dataclass
class TimelineEvent:
    """An event of the timeline."""

    seq: int
    type: str
    at: datetime
    url: str
    console_url: str
    outcomes: list[OutcomeCount] = field(default_factory=list)


def timeline(request: HttpRequest, instance: Instance) -> list[TimelineEvent] | None:
    """Return the newest events; None for users who may not see any."""
    if not request.user.has_perm("realtime.view_event"):
        return None
    rows = Event.objects.filter(instance_id=instance.pk).order_by("-seq")
    found = list(rows.values_list("pk", "seq", "type", "created_at")[:EVENTS])
    epoch = Stream.objects.states([instance.pk]).get(instance.pk, ("", 0, 0))[0]
    events = {
        seq: TimelineEvent(
            seq,
            event_type,
            at,
            admin_url("change", Event, pk),
            reverse("console:event", args=[instance.name, event_id(epoch, seq)]),
        )
        for pk, seq, event_type, at in found
    }
    if events and request.user.has_perm("realtime.view_delivery"):
        of_events = Delivery.objects.visible_to(request.user).filter(instance_id=instance.pk, seq__in=list(events))
        counts = of_events.order_by().values_list("seq", "state").annotate(count=Count("pk"))
        for seq, state, count in sorted(counts):
            word, css = _STATES.get(state, (state, ""))
            url = admin_url("changelist", Delivery, q=event_id(epoch, seq), state__exact=state)
            events[seq].outcomes.append(OutcomeCount(count, word, css, url))
    return list(events.values())


@dataclass
class ShownSubscription:
    """Settings of sockets, or an endpoint with its health."""

    name: str
    url: str
    #: `ok`, or what is wrong, in words.
    state: str
    css: str
    #: Its events in words.
    events: str
    checkboxes: SafeString
    #: Endpoints alone have these.
    success: str = "-"
    latency: str = "-"
    waiting: int = 0
    dead: int = 0
    waiting_url: str = ""
    dead_url: str = ""


class Subscriptions(NamedTuple):
    """The subscriptions of an instance, those that fail first."""

    sockets: ShownSubscription | None
    endpoints: list[ShownSubscription]
    has_more: bool
    dead: int


def subscriptions(request: HttpRequest, instance: Instance) -> Subscriptions | None:
    """Return the subscriptions; None for users who may not see them."""
    page: Any = admin.site.get_model_admin(Subscription)
    if not page.has_view_permission(request):
        return None
    order = (
        Case(When(transport=Subscription.WEBSOCKET, then=0), default=1),
        F("failing_since").asc(nulls_last=True),
        "is_enabled",
        "pk",
    )
    rows: list[Any] = list(instance.subscriptions.defer("secrets").order_by(*order)[: ENDPOINTS + 2])
    shown = [row for row in rows if row.is_endpoint][:ENDPOINTS]
    ids = [row.pk for row in shown]
    counts = pending_counts(ids)
    figures = figures_of_endpoints(last_hours(DAY_HOURS), ids) if ids else {}
    endpoints = []
    for row in shown:
        each = _subscription(page, row)
        each.success = success(figures.get(row.pk))
        each.latency = latency(figures.get(row.pk))
        each.waiting = counts.get((row.pk, State.PENDING.value), 0)
        each.dead = counts.get((row.pk, State.DEAD.value), 0)
        each.waiting_url, each.dead_url = (
            admin_url("changelist", Delivery, endpoint_id=row.pk, state__exact=state)
            for state in (State.PENDING.value, State.DEAD.value)
        )
        endpoints.append(each)
    sockets = next((_subscription(page, row) for row in rows if not row.is_endpoint), None)
    dead = sum(each.dead for each in endpoints)
    return Subscriptions(sockets, endpoints, len(rows) - bool(sockets) > ENDPOINTS, dead)


def _subscription(page: Any, row: Subscription) -> ShownSubscription:
    state = page.state(row) if row.is_endpoint else "on" if row.is_enabled else "off: sockets receive nothing"
    css = "bad" if not row.is_enabled or row.failing_since else "good"
    events = f"{len(row.events)} types" if len(row.events) != 1 else "1 type"
    if not row.events:
        events = "all events" if row.is_enabled else "no events"
    name = f"{row.transport} {page.destination(row)}".strip() if row.is_endpoint else "Sockets and event streams"
    checkboxes = readonly_checkboxes(f"events-{row.pk}", row.events)
    return ShownSubscription(name, admin_url("change", Subscription, row.pk), state, css, events, checkboxes)


class Keys(NamedTuple):
    """The API keys that open an instance, those that were used last first."""

    shown: list[ApiKey]
    has_more: bool
    url: str


def keys(request: HttpRequest, instance: Instance) -> Keys | None:
    """Return the usable keys that open the instance; None for users who may not see keys."""
    page: Any = admin.site.get_model_admin(ApiKey)
    if not page.has_view_permission(request):
        return None
    through: Any = ApiKey.instances.through
    own = through.objects.filter(instance_id=instance.pk).values("apikey_id")
    rows = page.get_queryset(request).usable().filter(Q(all_instances=True) | Q(pk__in=own))
    found = list(rows.order_by(F("last_used_at").desc(nulls_last=True), "name")[: KEYS + 1])
    return Keys(found[:KEYS], len(found) > KEYS, admin_url("changelist", ApiKey, state="usable"))


class ListeningClients(NamedTuple):
    """The clients of this process that listen to an instance."""

    page: ClientPage | None
    url: str
    #: The reason why they are not known; empty if they are.
    error: str
    process: str = ""


def sockets(request: HttpRequest, instance: Instance) -> ListeningClients | None:
    """Return the sockets that joined last; None for users who may not see them."""
    if not may(request.user, Action.SEE_CONNECTED):
        return None
    url = connected_url(instance_id=instance.pk)
    try:
        here = Connected.here()
        selection = selection_for(request.user, frozenset({instance.pk}))
        return ListeningClients(here.page(selection, 0, SOCKETS), url, "", here.name)
    except NotServing as error:
        return ListeningClients(None, url, str(error))
