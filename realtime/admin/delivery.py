from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.contrib import admin, messages
from django.contrib.admin.helpers import AdminForm
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.views.decorators.http import require_POST

from instances import json_body
from instances.access.rights import Action, may
from instances.access.staff import sees_content
from instances.admin import admin_url, format_time, pretty_json
from instances.admin.base import MAX_SHOWN, InstanceFilter
from instances.bounds import RESENT
from instances.errors import ApiError
from instances.models import Subscription
from instances.outbound.webhook_urls import masked_url
from realtime.admin.base import TypeFilter, actor
from realtime.admin.failures import FailurePages
from realtime.admin.forms import RangeForm, SelectedForm
from realtime.admin.links import SEARCH_HELP, link, search
from realtime.admin.overview.hour_filters import AttemptedFilter, OutcomeFilter
from realtime.api.delivery_serializers import MAX_IDS
from realtime.api.explain import status
from realtime.api.responses import masked_body, masked_headers, readable_payload
from realtime.delivery.bodies import Body
from realtime.delivery.causes import cure, title
from realtime.delivery.enqueue import endpoints_of
from realtime.delivery.models import UNREADABLE, Attempt, Delivery, State, load_bodies
from realtime.delivery.resend import ResendResult, send_again, sendable
from realtime.delivery.transports.base import off_reason, transports
from realtime.log.models import Event


class TransportFilter(admin.SimpleListFilter):
    title = "transport"
    parameter_name = "transport"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in transports()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(transport=self.value()) if self.value() else queryset


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.value, str(state.label)) for state in State]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Filter by state. Pending and dead deliveries have indexes, which a query in order of ids may not use.

        So a few are found by their ids; many are soon met among the newest. SQLite is kept from the index then:
        it would sort all of its rows.
        """
        is_narrow = not DeliveryAdmin.indexed_filters.isdisjoint(request.GET)
        if self.value() in PARTIALLY_INDEXED and not is_narrow:
            of_state = Delivery.objects.filter(state=self.value()).order_by().values_list("pk", flat=True)
            if len(ids := list(of_state[: FEW + 1])) <= FEW:
                return queryset.filter(pk__in=ids)
            if connection.vendor == "sqlite":
                return queryset.alias(met=Coalesce("state", Value(""))).filter(met=self.value())
        return queryset.filter(state=self.value()) if self.value() else queryset


#: Deliveries of a state that are listed by their ids.
FEW = 5000
#: States whose deliveries have an index of their own.
PARTIALLY_INDEXED = (State.PENDING, State.DEAD)
#: Fields of the form that select a range.
RANGE_FIELDS = ("instance", "since", "until", "state", "endpoint")


@admin.register(Delivery)
class DeliveryAdmin(FailurePages):
    list_display = ("name", "seq", "type", "state", "attempts", "shown_time", "shown_destination")
    list_display_links = ("name", "seq")
    list_filter = (InstanceFilter, StateFilter, TransportFilter, TypeFilter, AttemptedFilter, OutcomeFilter)
    search_fields = ("name",)
    search_help_text = SEARCH_HELP
    content = "body"
    indexed_filters = FailurePages.indexed_filters | {
        "endpoint_id",
        "endpoint_id__exact",
        AttemptedFilter.parameter_name,
    }
    content_fields = ("shown_body",)
    hidden_columns = ("destination",)
    actions = ("send_selected_again", "send_selected_to_url")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "name",
                    "type",
                    "seq",
                    "shown_event",
                    "state",
                    "attempts",
                    "shown_time",
                    "status",
                    "reason",
                    "shown_cause",
                    "shown_resent_from",
                    "asked_by",
                )
            },
        ),
        ("Request", {"fields": ("transport", "full_destination", "endpoint", "shown_headers", "shown_body")}),
        ("More", {"fields": ("instance_id", "is_ordered", "created_at"), "classes": ("collapse",)}),
    )

    def get_urls(self) -> list[URLPattern]:
        again = self.admin_site.admin_view(require_POST(self.send_again_view))
        return [
            path("resend/", self.admin_site.admin_view(self.resend_view), name="realtime_delivery_resend"),
            path("<path:object_id>/again/", again, name="realtime_delivery_again"),
            *super().get_urls(),
        ]

    def within_limit(self, user: Any, rows: Any) -> QuerySet:
        return rows.visible_to(user)

    def is_indexed(self, params: dict[str, list[str]]) -> bool:
        """Return whether an index serves the parameters; those of pending and of dead deliveries are partial ones."""
        return super().is_indexed(params) or (params.get("state__exact") or [""])[0] in PARTIALLY_INDEXED

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"may_send": self.has_send_permission(request)})

    def has_send_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may send deliveries again to their endpoints."""
        return may(request.user, Action.RESEND)

    def has_send_elsewhere_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may send deliveries again to a URL of his choice."""
        return may(request.user, Action.RESEND_ELSEWHERE)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet[Delivery], bool]:
        return search(queryset, search_term, request.user), False

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        # by id, not by number: the numbers start again when a dead delivery is sent again
        attempts = Attempt.objects.filter(delivery=context["original"]).order_by("pk")
        context |= {
            "may_send": self.has_send_permission(request),
            "may_send_elsewhere": self.has_send_elsewhere_permission(request),
            "attempts": attempts,
            "sees_content": sees_content(request.user),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="destination")
    def shown_destination(self, delivery: Delivery) -> str:
        return Truncator(masked_url(delivery.destination)).chars(60)

    @admin.display(description="destination")
    def full_destination(self, delivery: Delivery) -> str:
        return masked_url(delivery.destination)

    @admin.display(description="time")
    def shown_time(self, delivery: Delivery) -> str:
        if delivery.state == State.PENDING:
            return f"due {format_time(delivery.due_at)}"
        return format_time(delivery.finished_at) if delivery.finished_at else "-"

    @admin.display(description="status")
    def status(self, delivery: Delivery) -> str:
        """Return in words what became of it, as the event's page does."""
        return f"Its endpoint {status(delivery, Attempt.last_of([delivery]).get(delivery.pk))}."

    @admin.display(description="cause")
    def shown_cause(self, delivery: Delivery) -> str:
        return f"{title(delivery.cause)}. {cure(delivery.cause)}".strip() if delivery.cause else "-"

    @admin.display(description="event")
    def shown_event(self, delivery: Delivery) -> str:
        event = Event.objects.filter(instance_id=delivery.instance_id, seq=delivery.seq).defer("envelope").first()
        return link(Event, event.pk, delivery.event_id) if event else f"{delivery.event_id} (no longer kept)"

    @admin.display(description="resent from")
    def shown_resent_from(self, delivery: Delivery) -> str:
        return link(Delivery, delivery.resent_from, delivery.resent_from) if delivery.resent_from else "-"

    @admin.display(description="endpoint")
    def endpoint(self, delivery: Delivery) -> str:
        if delivery.endpoint_id <= 0:
            return "for all instances, set in the environment"
        found = Subscription.objects.select_related("instance").defer("secrets").filter(pk=delivery.endpoint_id).first()
        return link(Subscription, found.pk, found) if found else "deleted"

    @admin.display(description="headers")
    def shown_headers(self, delivery: Delivery) -> str:
        """Return the headers that an attempt would have now; those of earlier attempts are not stored."""
        endpoint = Subscription.objects.filter(pk=delivery.endpoint_id).first()
        if delivery.transport != Subscription.WEBHOOK:
            return "-"
        load_bodies([delivery])
        headers = masked_headers(delivery, endpoint, readable_payload(delivery)).items()
        return format_html_join("", "<div>{}: {}</div>", headers)

    @admin.display(description="body")
    def shown_body(self, delivery: Delivery) -> str:
        load_bodies([delivery])
        try:
            body = masked_body(bytes(delivery.payload()))
        except Body.DoesNotExist:
            return UNREADABLE
        try:
            return pretty_json(json_body.load_stored(body))
        except ValueError:
            text = body[:MAX_SHOWN].decode(errors="replace")
            return format_html('<pre class="json">{}</pre>', text)

    def send_again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_send_permission(request):
            raise PermissionDenied
        delivery = self.get_object(request, object_id)
        if delivery is None:
            raise Http404
        self._send_again(request, [delivery])
        new = Delivery.objects.filter(resent_from=delivery.pk, instance_id=delivery.instance_id).first()
        return HttpResponseRedirect(admin_url("change", Delivery, (new or delivery).pk))

    @admin.action(description="Send selected deliveries again", permissions=["send"])
    def send_selected_again(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._send_again(request, list(queryset.defer("body")[:RESENT]))

    @admin.action(description="Send selected deliveries to another URL", permissions=["send_elsewhere"])
    def send_selected_to_url(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse | None:
        ids = list(queryset.values_list("pk", flat=True)[: MAX_IDS + 1])
        if len(ids) > MAX_IDS:
            self.message_user(
                request, f"More than {MAX_IDS} deliveries are selected: send a range instead.", messages.ERROR
            )
            return None
        return HttpResponseRedirect(admin_url("resend", Delivery, ids=",".join(map(str, ids))))

    def resend_view(self, request: HttpRequest) -> HttpResponse:
        """Send deliveries again: those with the ids in the query, or a range; to their endpoints or to another URL."""
        if not self.has_send_permission(request):
            raise PermissionDenied
        may_send_elsewhere = self.has_send_elsewhere_permission(request)
        if request.POST.get("url") and not may_send_elsewhere:
            raise PermissionDenied
        has_ids = "ids" in request.GET
        form_class = SelectedForm if has_ids else RangeForm
        form = form_class(request.user, request.POST or None, initial=request.GET.dict())
        if request.method == "POST" and form.is_valid():
            try:
                self._resend(request, form)
            except ApiError as error:  # too many are pending
                self.message_user(request, f"Nothing was sent again. {error.detail}.", messages.ERROR)
            return HttpResponseRedirect(admin_url("changelist", Delivery))
        fieldsets: list[Any] = [("Target", {"fields": ("url", "secret")})] if may_send_elsewhere else []
        if not has_ids:
            fieldsets.insert(0, ("Deliveries", {"fields": RANGE_FIELDS}))
        context = {
            **self.admin_site.each_context(request),
            "title": "Send deliveries again",
            "opts": self.opts,
            "form": form,
            "count": len(request.GET["ids"].split(",")) if has_ids else None,
            "fieldsets": AdminForm(form, fieldsets, {}, model_admin=self),  # type: ignore[arg-type]
            "media": self.media + form.media,
        }
        return TemplateResponse(request, "admin/realtime/delivery/resend.html", context)

    def _resend(self, request: HttpRequest, form: SelectedForm | RangeForm) -> None:
        deliveries, override = form.deliveries, form.override
        with transaction.atomic():
            if override is None:
                ids = deliveries.order_by().values_list("endpoint_id", flat=True).distinct()
                usable = list(endpoints_of(set(ids)))
                off = [name for name in transports() if off_reason(name)]
                deliveries = deliveries.filter(endpoint_id__in=usable).exclude(transport__in=off)
            resent = send_again(deliveries, RESENT, actor(request), override)
            target = f" to {urlsplit(override.url).hostname}" if override else ""
            text = f"{resent}.".replace("Sent again", f"Sent again{target}")
            LogEntry.objects.log_actions(request.user.pk, form.subjects, CHANGE, text)  # type: ignore[arg-type]
        more = " There are more: submit the form again to send the rest." if resent.has_more else ""
        self.message_user(request, f"{text}{more}", _level(resent))

    def _send_again(self, request: HttpRequest, deliveries: list[Delivery]) -> None:
        """Send again those deliveries with a usable endpoint, pending ones at once."""
        sent = sendable(deliveries)
        try:
            with transaction.atomic():
                rows = Delivery.objects.filter(pk__in=[delivery.pk for delivery in sent])
                resent = send_again(rows, RESENT, actor(request))
                LogEntry.objects.log_actions(request.user.pk, sent, CHANGE, "Sent again.")  # type: ignore[arg-type]
        except ApiError as error:  # too many are pending
            self.message_user(request, f"Nothing was sent again. {error.detail}.", messages.ERROR)
            return
        if skipped := len(deliveries) - len(sent):
            text = f"Not sent, because the endpoint is off or deleted: {skipped}."
            self.message_user(request, text, messages.ERROR)
        self.message_user(request, f"{resent}.", _level(resent))


def _level(resent: ResendResult) -> int:
    return messages.SUCCESS if resent.copied or resent.due else messages.WARNING
