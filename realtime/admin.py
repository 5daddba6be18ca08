"""The log in the admin, where each instance stands in it, and what endpoints are owed of it."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import OuterRef, Prefetch, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.views.decorators.http import require_POST

from instances.admin import InstanceAdmin, ReadOnlyAdmin, SubscriptionAdmin, address, pretty, to_the_second
from instances.admin.base import MAX_SHOWN
from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.answers import masked_headers
from realtime.deliveries import Attempt, Delivery, State, endpoints_of, owed_counts
from realtime.models import Event, Stream
from realtime.resending import MAX_RESENT, resend, revive, send_test
from realtime.transports.base import transports
from realtime.why import explain

admin.site.unregister((Instance, Subscription))


class BoundedPaginator(Paginator):
    """Counts no further than people leaf: to count millions of rows takes longer than to show some."""

    MAX = 10_000

    @cached_property
    def count(self) -> int:
        return min(self._found, self.MAX)

    @cached_property
    def _found(self) -> int:
        rows: Any = self.object_list
        return rows.order_by()[: self.MAX + 1].count()

    @property
    def is_cut(self) -> bool:
        return self._found > self.MAX


@admin.register(Instance)
class LoggedInstanceAdmin(InstanceAdmin):
    def get_list_display(self, request: HttpRequest) -> Any:
        return (*super().get_list_display(request), "endpoints", "last_event")

    def get_fieldsets(self, request: HttpRequest, obj: Instance | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        (title, general), *others = fieldsets
        return [(title, general | {"fields": (*general["fields"], "endpoints", "deliveries")}), *others]

    def get_readonly_fields(self, request: HttpRequest, obj: Instance | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *(("endpoints", "deliveries") if obj else ()))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        last_seq = Subquery(Stream.objects.filter(pk=OuterRef("pk")).values("last_seq"))
        prefetch = Prefetch("subscriptions", Subscription.objects.endpoints().defer("secrets"), to_attr="its_endpoints")
        changelist.result_list = changelist.result_list.annotate(last_seq=last_seq).prefetch_related(prefetch)
        return changelist

    @admin.display(description="last event")
    def last_event(self, instance: Any) -> str:
        url = address("changelist", Event, instance_id=instance.pk)
        return format_html('<a href="{}">{}</a>', url, instance.last_seq or 0)

    @admin.display(description="endpoints")
    def endpoints(self, instance: Any) -> str:
        found = getattr(instance, "its_endpoints", None)
        if found is None:
            found = list(instance.subscriptions.endpoints().defer("secrets"))
        if not found:
            add = address("add", Subscription, instance=instance.pk, transport=Subscription.WEBHOOK)
            return format_html('<a href="{}" title="Add a webhook">none</a>', add)
        off = sum(not one.is_enabled for one in found)
        failing = sum(bool(one.is_enabled and one.failing_since) for one in found)
        told = [str(len(found)), *([f"{failing} failing"] if failing else []), *([f"{off} off"] if off else [])]
        url = address("changelist", Subscription, instance__id__exact=instance.pk)
        return format_html('<a href="{}">{}</a>', url, ", ".join(told))

    @admin.display(description="deliveries")
    def deliveries(self, instance: Instance) -> str:
        return format_html('<a href="{}">show</a>', address("changelist", Delivery, instance_id=instance.pk))


# What endpoints are owed


@admin.register(Subscription)
class OwedSubscriptionAdmin(SubscriptionAdmin):
    actions = ("switch_on", "send_dead_again", "send_test_event")

    def get_list_display(self, request: HttpRequest) -> Any:
        *first, destination, events = super().get_list_display(request)
        return (*first, "pending", "dead", destination, events)

    def get_fieldsets(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is not None and obj.is_endpoint:
            fieldsets.append(("Deliveries", {"fields": ("pending", "dead", "deliveries")}))
        return fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *(("pending", "dead", "deliveries") if obj else ()))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        rows = changelist.result_list = list(changelist.result_list)
        counts = owed_counts([one.pk for one in rows if one.is_endpoint])
        for one in rows:
            one.owed = counts
        return changelist

    @admin.display(description="pending")
    def pending(self, subscription: Subscription) -> str:
        return self._owed(subscription, State.PENDING)

    @admin.display(description="dead")
    def dead(self, subscription: Subscription) -> str:
        return self._owed(subscription, State.DEAD)

    @admin.display(description="all")
    def deliveries(self, subscription: Subscription) -> str:
        return format_html('<a href="{}">show</a>', address("changelist", Delivery, endpoint_id=subscription.pk))

    def _owed(self, subscription: Any, state: State) -> str:
        if not subscription.is_endpoint:
            return "-"
        if not hasattr(subscription, "owed"):
            subscription.owed = owed_counts([subscription.pk])
        url = address("changelist", Delivery, endpoint_id=subscription.pk, state__exact=state.value)
        return format_html('<a href="{}">{}</a>', url, subscription.owed.get((subscription.pk, state.value), 0))

    @admin.action(description="Send again what died at selected endpoints", permissions=["change"])
    def send_dead_again(self, request: HttpRequest, queryset: Any) -> None:
        for endpoint in queryset.endpoints().defer("secrets"):
            name = f"{endpoint} ({self.destination(endpoint)})"
            if not endpoint.is_enabled:
                self.message_user(request, f"{name} is off: switch it on first.", messages.ERROR)
                continue
            with transaction.atomic():
                if count := revive(endpoint.pk):
                    self.log_change(request, endpoint, f"Sent again what had died: {count}.")
            level = messages.SUCCESS if count else messages.WARNING
            self.message_user(request, f"{name}: {count} due again.", level)

    @admin.action(description="Send a test event to selected webhooks", permissions=["change"])
    def send_test_event(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Of the first type that they want; it is an instance's, so those of all instances get none."""
        count = 0
        webhooks = queryset.filter(transport=Subscription.WEBHOOK, is_enabled=True).exclude(instance=None)
        for endpoint in webhooks.select_related("instance"):
            event_type = next(filter(None, map(EventType.named, endpoint.events)), EventType.MESSAGES_UPSERT)
            with transaction.atomic():
                send_test(endpoint.instance, event_type, [endpoint], in_admin(request))
                self.log_change(request, endpoint, f"Sent a test of {event_type.value}.")
            count += 1
        level = messages.SUCCESS if count else messages.WARNING
        self.message_user(request, f"Test events sent to webhooks that are on: {count}.", level)

    def delete_model(self, request: HttpRequest, obj: Subscription) -> None:
        with transaction.atomic():
            Delivery.objects.give_up([obj.pk], State.DROPPED)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        with transaction.atomic():
            Delivery.objects.give_up(queryset.values_list("pk", flat=True), State.DROPPED)
            super().delete_queryset(request, queryset)


def in_admin(request: HttpRequest) -> str:
    """Who asks, for the record."""
    return f"{request.user.get_username()} in the admin"


class TypeFilter(admin.SimpleListFilter):
    """From the catalogue: to ask the log which types it has would read all of it."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(event_type, event_type) for event_type in EventType.values]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(type=self.value()) if self.value() else queryset


class LongListAdmin(ReadOnlyAdmin):
    """For tables of millions of rows: nothing counts them, sorts them or reads what the list does not show."""

    paginator = BoundedPaginator
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    #: The column that only the detail page shows.
    content: str

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        changelist.result_list = changelist.result_list.defer(self.content)
        if changelist.paginator.is_cut:  # the search would tell a number that is not the whole
            changelist.full_result_count = changelist.result_count
        return changelist


@admin.register(Event)
class EventAdmin(LongListAdmin):
    list_display = ("name", "seq", "type", "is_heard", "recorded_at")
    list_display_links = ("name", "seq")
    list_filter = (TypeFilter, "is_heard")
    search_fields = ("name",)
    search_help_text = "Instance name"
    content = "envelope"
    fields = ("name", "instance_id", "seq", "type", "is_heard", "recorded_at", "who_got_it", "shown_envelope")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        """Through the streams, one row an instance: the log itself is too long to look for names in."""
        if search_term:
            found = Stream.objects.filter(name__icontains=search_term)
            queryset = queryset.filter(instance_id__in=found.values("pk"))
        return queryset, False

    @admin.display(description="recorded at")
    def recorded_at(self, event: Event) -> str:
        return to_the_second(event.created_at)

    @admin.display(description="who got it")
    def who_got_it(self, event: Event) -> str:
        """Each endpoint and the sockets, in words."""
        instance = Instance.objects.filter(pk=event.instance_id).first()
        if instance is None:
            return "The instance is deleted: its deliveries are on record."
        told = explain(instance, str(event.seq), is_for_all=True)["summary"]
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}</li>", ((one,) for one in told)))

    @admin.display(description="envelope")
    def shown_envelope(self, event: Event) -> str:
        return pretty(json.loads(bytes(event.envelope)))


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin):
    list_display = ("name", "first_seq", "last_seq", "heard_seq", "epoch", "instance_id")
    search_fields = ("name",)
    ordering = ("name",)


class TransportFilter(admin.SimpleListFilter):
    title = "transport"
    parameter_name = "transport"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in transports()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(transport=self.value()) if self.value() else queryset


@admin.register(Delivery)
class DeliveryAdmin(LongListAdmin):
    list_display = ("name", "seq", "type", "state", "attempts", "moment", "shown_destination")
    list_display_links = ("name", "seq")
    list_filter = ("state", TransportFilter, TypeFilter)
    search_fields = ("name",)
    search_help_text = "Instance name, or the id of an event"
    content = "body"
    actions = ("send_selected_again",)
    fieldsets = (
        (None, {"fields": ("name", "type", "seq", "event_id", "state", "attempts", "moment", "repeats")}),
        ("Request", {"fields": ("transport", "destination", "endpoint", "shown_headers", "shown_body")}),
        ("More", {"fields": ("instance_id", "is_ordered", "created_at"), "classes": ("collapse",)}),
    )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.again_view))
        return [path("<path:object_id>/again/", view, name="realtime_delivery_again"), *super().get_urls()]

    def has_send_permission(self, request: HttpRequest) -> bool:
        """No hand changes a delivery, but who has the permission to may send it again."""
        return request.user.has_perm("realtime.change_delivery")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet[Delivery], bool]:
        """Through the streams, one row an instance, and the index of their events."""
        term = search_term.strip()
        if event := re.fullmatch(r"([0-9a-f]{16})\.([0-9]{1,18})", term):
            streams = Stream.objects.filter(epoch=event[1])
            queryset = queryset.filter(instance_id__in=streams.values("pk"), seq=int(event[2]), event_id=term)
        elif term:
            queryset = queryset.filter(instance_id__in=Stream.objects.filter(name__icontains=term).values("pk"))
        return queryset, False

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        # by row, not by number: who sends again by hand begins to count again
        attempts = Attempt.objects.filter(delivery=context["original"]).order_by("pk")
        context |= {"may_send": self.has_send_permission(request), "attempts": attempts}
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="destination")
    def shown_destination(self, delivery: Delivery) -> str:
        return Truncator(delivery.destination).chars(60)

    @admin.display(description="when")
    def moment(self, delivery: Delivery) -> str:
        if delivery.state == State.PENDING:
            return f"due {to_the_second(delivery.due_at)}"
        return to_the_second(delivery.finished_at) if delivery.finished_at else "-"

    @admin.display(description="repeats")
    def repeats(self, delivery: Delivery) -> str:
        return _link(Delivery, delivery.resent_from, delivery.resent_from) if delivery.resent_from else "-"

    @admin.display(description="endpoint")
    def endpoint(self, delivery: Delivery) -> str:
        if delivery.endpoint_id <= 0:
            return "of all instances, in the environment"
        found = Subscription.objects.select_related("instance").defer("secrets").filter(pk=delivery.endpoint_id).first()
        return _link(Subscription, found.pk, found) if found else "deleted"

    @admin.display(description="headers")
    def shown_headers(self, delivery: Delivery) -> str:
        """As they would be now: nothing but the body is kept of what was sent before."""
        endpoint = Subscription.objects.filter(pk=delivery.endpoint_id).first()
        headers = masked_headers(delivery, endpoint).items() if delivery.transport == Subscription.WEBHOOK else ()
        return format_html_join("", "<div>{}: {}</div>", headers) or "-"

    @admin.display(description="body")
    def shown_body(self, delivery: Delivery) -> str:
        body = bytes(delivery.body)
        try:
            return pretty(orjson.loads(body))
        except orjson.JSONDecodeError:
            text = body[:MAX_SHOWN].decode(errors="replace")
            return format_html('<pre class="json">{}</pre>', text)

    def again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_send_permission(request):
            raise PermissionDenied
        delivery = self.get_object(request, object_id)
        if delivery is None:
            raise Http404
        self._send_again(request, [delivery])
        new = Delivery.objects.filter(resent_from=delivery.pk, instance_id=delivery.instance_id).first()
        return HttpResponseRedirect(address("change", Delivery, (new or delivery).pk))

    @admin.action(description="Send selected deliveries again", permissions=["send"])
    def send_selected_again(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._send_again(request, list(queryset.defer("body")[:MAX_RESENT]))

    def _send_again(self, request: HttpRequest, deliveries: list[Delivery]) -> None:
        """Those whose endpoint can be sent to; what is pending is on its way as it is."""
        there = endpoints_of({one.endpoint_id for one in deliveries})
        chosen = [one for one in deliveries if one.endpoint_id in there and one.state != State.PENDING]
        with transaction.atomic():
            count = resend(Delivery.objects.filter(pk__in=[one.pk for one in chosen]), MAX_RESENT, in_admin(request))
            LogEntry.objects.log_actions(request.user.pk, chosen, CHANGE, "Sent again.")  # type: ignore[arg-type]
        if gone := sum(one.endpoint_id not in there for one in deliveries):
            self.message_user(request, f"Not sent, as the endpoint is off or gone: {gone}.", messages.ERROR)
        self.message_user(request, f"Sent again: {count}.", messages.SUCCESS if count else messages.WARNING)


def _link(model: Any, pk: int, text: Any) -> str:
    return format_html('<a href="{}">{}</a>', address("change", model, pk), text)
