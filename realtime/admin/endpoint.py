from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from instances.access.rights import Action, may
from instances.admin import SubscriptionAdmin, admin_url
from instances.bounds import RESENT
from instances.errors import ApiError
from instances.events import EventType
from instances.models import Subscription
from realtime.admin.base import actor
from realtime.admin.health import HOURS, last_failure, latency, next_attempt, success
from realtime.admin.overview.words import milliseconds
from realtime.counters.figures import EndpointFigures, figures_of_endpoints
from realtime.counters.hours import last_hours
from realtime.delivery.models import DELETED, Delivery, State, pending_counts
from realtime.delivery.resend import requeue_dead, send_test

admin.site.unregister(Subscription)

#: The fields about an endpoint's health, on its page.
HEALTH_FIELDS = ("success", "latency", "next_attempt", "last_failure")


@admin.register(Subscription)
class EndpointSubscriptionAdmin(SubscriptionAdmin):
    actions = ("switch_on", "send_dead_again", "send_test_event")

    class Media:
        css = {"all": ("realtime/admin.css",)}

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return may(request.user, Action.RESEND)

    def has_send_test_permission(self, request: HttpRequest) -> bool:
        return may(request.user, Action.SEND_TEST)

    def get_list_display(self, request: HttpRequest) -> Any:
        *first, destination, events = super().get_list_display(request)
        return (*first, "last_day", "pending", "dead", destination, events)

    def get_fieldsets(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is not None and obj.is_endpoint:
            fieldsets.append(("Health", {"fields": HEALTH_FIELDS}))
            again = ("send_again",) if obj.instance_id and may(request.user, Action.RESEND) else ()
            fieldsets.append(("Deliveries", {"fields": ("pending", "dead", "deliveries", *again)}))
        return fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        return (
            *super().get_readonly_fields(request, obj),
            *((*HEALTH_FIELDS, "pending", "dead", "deliveries", "send_again") if obj else ()),
        )

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        rows = changelist.result_list = list(changelist.result_list)
        ids = [row.pk for row in rows if row.is_endpoint]
        counts, figures = pending_counts(ids), figures_of_endpoints(last_hours(HOURS), ids)
        for row in rows:
            row.delivery_counts, row.figures = counts, figures.get(row.pk)
        return changelist

    @admin.display(description="last 24 hours")
    def last_day(self, subscription: Subscription) -> str:
        """Return the success rate and the mean latency."""
        figures = self._figures(subscription)
        if figures is None:
            return "no attempts" if subscription.is_endpoint else "-"
        return format_html("{}, {}", success(figures), milliseconds(figures.mean_ms))

    @admin.display(description="success in 24 hours")
    def success(self, subscription: Subscription) -> str:
        return success(self._figures(subscription))

    @admin.display(description="latency in 24 hours")
    def latency(self, subscription: Subscription) -> str:
        return latency(self._figures(subscription))

    @admin.display(description="next attempt")
    def next_attempt(self, subscription: Subscription) -> str:
        return next_attempt(subscription)

    @admin.display(description="last error")
    def last_failure(self, subscription: Subscription) -> str:
        return last_failure(subscription)

    def _figures(self, subscription: Any) -> EndpointFigures | None:
        if not hasattr(subscription, "figures"):
            found = figures_of_endpoints(last_hours(HOURS), [subscription.pk])
            subscription.figures = found.get(subscription.pk)
        return subscription.figures

    @admin.display(description="pending deliveries")
    def pending(self, subscription: Subscription) -> str:
        return self._count_link(subscription, State.PENDING)

    @admin.display(description="dead deliveries")
    def dead(self, subscription: Subscription) -> str:
        return self._count_link(subscription, State.DEAD)

    @admin.display(description="all deliveries")
    def deliveries(self, subscription: Subscription) -> str:
        return format_html('<a href="{}">show</a>', admin_url("changelist", Delivery, endpoint_id=subscription.pk))

    @admin.display(description="send again")
    def send_again(self, subscription: Subscription) -> str:
        url = admin_url("resend", Delivery, instance=subscription.instance_id, endpoint=subscription.pk)
        return format_html('<a href="{}">send a range again</a>', url)

    def _count_link(self, subscription: Any, state: State) -> str:
        if not subscription.is_endpoint:
            return "-"
        if not hasattr(subscription, "delivery_counts"):
            subscription.delivery_counts = pending_counts([subscription.pk])
        url = admin_url("changelist", Delivery, endpoint_id=subscription.pk, state__exact=state.value)
        return format_html(
            '<a href="{}">{}</a>', url, subscription.delivery_counts.get((subscription.pk, state.value), 0)
        )

    @admin.action(description="Send dead deliveries of selected endpoints again", permissions=["resend"])
    def send_dead_again(self, request: HttpRequest, queryset: Any) -> None:
        for endpoint in queryset.endpoints().defer("secrets"):
            name = f"{endpoint} ({self.destination(endpoint)})"
            if not endpoint.is_enabled:
                self.message_user(request, f"{name} is off: switch it on first.", messages.ERROR)
                continue
            try:
                with transaction.atomic():
                    if count := requeue_dead(Delivery.objects.filter(endpoint_id=endpoint.pk), RESENT):
                        self.log_change(request, endpoint, f"Sent dead deliveries again: {count}.")
            except ApiError as error:  # too many are pending
                self.message_user(request, f"{name}: none is queued again. {error.detail}.", messages.ERROR)
                continue
            level = messages.SUCCESS if count else messages.WARNING
            more = " There are more: do it again to send the rest." if count == RESENT else ""
            self.message_user(request, f"{name}: {count} queued again.{more}", level)

    @admin.action(description="Send a test event to selected webhooks", permissions=["send_test"])
    def send_test_event(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Send a sample of the first type that a webhook subscribes to; webhooks for all instances are skipped."""
        count = 0
        webhooks = queryset.filter(transport=Subscription.WEBHOOK, is_enabled=True).exclude(instance=None)
        for endpoint in webhooks.select_related("instance"):
            event_type = next(filter(None, map(EventType.named, endpoint.events)), EventType.MESSAGES_UPSERT)
            try:
                with transaction.atomic():
                    send_test(endpoint.instance, event_type, [endpoint], actor(request))
                    self.log_change(request, endpoint, f"Sent a test event of type {event_type.value}.")
            except ApiError as error:  # too many are pending
                self.message_user(request, f"{endpoint}: {error.detail}.", messages.ERROR)
                continue
            count += 1
        level = messages.SUCCESS if count else messages.WARNING
        self.message_user(request, f"Test events sent to webhooks that are on: {count}.", level)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.test_view))
        return [path("<path:object_id>/test/", view, name="instances_subscription_test"), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        context["test_event_types"] = [event_type for event_type in EventType if event_type.is_subscribable]
        return super().render_change_form(request, context, *args, **kwargs)

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a sample of the chosen type to one webhook, also if it does not subscribe to that type."""
        endpoint = self.get_changeable(request, object_id)
        if not self.has_send_test_permission(request):
            raise PermissionDenied
        event_type = EventType.named(request.POST.get("event_type"))
        if endpoint.transport != Subscription.WEBHOOK or event_type is None or not event_type.is_subscribable:
            raise Http404
        if endpoint.instance is None or not endpoint.is_enabled:
            text = "Test events need a webhook that is on and belongs to an instance."
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(admin_url("change", Subscription, endpoint.pk))
        try:
            with transaction.atomic():
                [delivery] = send_test(endpoint.instance, event_type, [endpoint], actor(request))
                self.log_change(request, endpoint, f"Sent a test event of type {event_type.value}.")
        except ApiError as error:  # too many are pending
            self.message_user(request, f"{error.detail}.", messages.ERROR)
            return HttpResponseRedirect(admin_url("change", Subscription, endpoint.pk))
        self.message_user(request, f"A test event of type {event_type.value} is queued.", messages.SUCCESS)
        return HttpResponseRedirect(admin_url("change", Delivery, delivery.pk))

    def delete_model(self, request: HttpRequest, obj: Subscription) -> None:
        with transaction.atomic():
            Delivery.objects.give_up([obj.pk], State.DROPPED, DELETED)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        with transaction.atomic():
            Delivery.objects.give_up(queryset.values_list("pk", flat=True), State.DROPPED, DELETED)
            super().delete_queryset(request, queryset)
