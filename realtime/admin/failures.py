"""The page of failed deliveries by cause, and the button that sends a whole group again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST

from instances.access.rights import Action, may
from instances.access.staff import sees_all_instances, visible_ids
from instances.admin import admin_url
from instances.bounds import RESENT
from instances.errors import ApiError
from instances.models import Instance, Subscription
from instances.outbound.webhook_urls import masked_url
from realtime.admin.base import LongListAdmin
from realtime.admin.connected import instance_of
from realtime.delivery.causes import cure, title
from realtime.delivery.enqueue import endpoints_of
from realtime.delivery.failure_groups import FailureGroup, FailureGroups, failure_groups, retry_group
from realtime.delivery.models import Delivery, State
from realtime.delivery.transports.base import off_reason

#: The states that the page shows, with their headings.
STATES = {State.DEAD: "Given up", State.PENDING: "Waiting for another attempt"}


@dataclass
class Row:
    """A group as the page shows it: with its oldest and newest delivery, and its endpoint."""

    group: FailureGroup
    oldest: Delivery | None
    newest: Delivery | None
    endpoint: Subscription | None

    @property
    def destination(self) -> str:
        """The host that it was sent to, or another transport's destination."""
        text = self.newest.destination if self.newest else ""
        return urlsplit(text).hostname or masked_url(text)

    @property
    def url(self) -> str:
        """The URL of the list of its deliveries."""
        query = {"endpoint_id": self.group.endpoint_id, "cause": self.group.cause}
        return admin_url("changelist", Delivery, state__exact=self.group.state.value, **query)


@dataclass
class CauseRows:
    """The groups of one cause and state."""

    state: State
    cause: str
    rows: list[Row] = field(default_factory=list)

    @property
    def title(self) -> str:
        return title(self.cause)

    @property
    def cure(self) -> str:
        return cure(self.cause)

    @property
    def counted(self) -> int:
        return sum(row.group.counted for row in self.rows)


class FailurePages(LongListAdmin):
    """Base class of the admin of deliveries, with the page of those that have failed."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("failures/", view(self.failures_view), name="realtime_delivery_failures"),
            path("failures/retry/", view(require_POST(self.retry_view)), name="realtime_delivery_retry"),
            *super().get_urls(),
        ]

    def failures_view(self, request: HttpRequest) -> HttpResponse:
        """List failed deliveries by state and cause: of all endpoints that the user may see, or of one instance's."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        instance = instance_of(request, request.GET)
        found = [(heading, _groups(request, state, instance)) for state, heading in STATES.items()]
        rows = _rows([group for _, each in found for group in each.groups])
        sections = [
            {"heading": heading, "causes": _by_cause(each, rows), "has_more": each.has_more} for heading, each in found
        ]
        context = {
            **self.admin_site.each_context(request),
            "title": f"Failures of {instance.name}" if instance else "Failures by cause",
            "opts": self.opts,
            "instance": instance,
            "sections": sections,
            "may_retry": may(request.user, Action.RESEND),
            "limit": f"{RESENT:,}",
        }
        return TemplateResponse(request, "admin/realtime/failures.html", context)

    def retry_view(self, request: HttpRequest) -> HttpResponse:
        """Send the deliveries of one cause again: to one endpoint, or to all that have failed by it."""
        if not (self.has_view_permission(request) and may(request.user, Action.RESEND)):
            raise PermissionDenied
        instance = instance_of(request, request.POST)
        cause, endpoint = request.POST.get("cause", ""), request.POST.get("endpoint", "")
        state = State.PENDING if request.POST.get("state") == State.PENDING.value else State.DEAD
        # from the user's own groups: those of others are not among them
        groups = [group for group in _groups(request, state, instance).groups if group.cause == cause]
        groups = [group for group in groups if not endpoint or str(group.endpoint_id) == endpoint]
        if groups:
            self._retry(request, groups)
        else:
            self.message_user(request, "There is none of these any more.", messages.WARNING)
        query = {"instance_id": instance.pk} if instance else {}
        return HttpResponseRedirect(admin_url("failures", Delivery, **query))

    def _retry(self, request: HttpRequest, groups: list[FailureGroup]) -> None:
        usable = endpoints_of({group.endpoint_id for group in groups})
        count, has_more, refused, off = 0, False, [], 0
        for group in groups:
            endpoint = usable.get(group.endpoint_id)
            if endpoint is None or off_reason(endpoint.transport):
                off += 1
                continue
            if count >= RESENT:
                has_more = True
                break
            try:
                with transaction.atomic():
                    retried = retry_group(group.state, group.endpoint_id, group.cause, RESENT - count)
                    _log(request, group, retried.count)
            except ApiError as error:  # too many are pending
                refused.append(f"{error.detail}.")
                continue
            count, has_more = count + retried.count, has_more or retried.has_more
        text = f"{'Sent again' if groups[0].state == State.DEAD else 'Sent now'}: {count}."
        more = " There are more: press the button again to send the rest." if has_more else ""
        self.message_user(request, text + more, messages.SUCCESS if count else messages.WARNING)
        if off:
            text = f"Not sent, because the endpoint is off or deleted: the deliveries of {off}. Switch it on first."
            self.message_user(request, text, messages.ERROR)
        for each in dict.fromkeys(refused):
            self.message_user(request, f"Some were not sent again. {each}", messages.ERROR)


def _groups(request: HttpRequest, state: State, instance: Instance | None) -> FailureGroups:
    if instance:
        return failure_groups(state, Instance.objects.filter(pk=instance.pk).values_list("pk", flat=True))
    return failure_groups(state, None if sees_all_instances(request.user) else visible_ids(request.user))


def _rows(groups: Iterable[FailureGroup]) -> dict[FailureGroup, Row]:
    """Return the groups with their rows of the database, read in two queries."""
    groups = list(groups)
    ids = {pk for group in groups for pk in (group.first_id, group.last_id)}
    columns = ("name", "destination", "created_at", "finished_at", "event_id", "seq")
    deliveries = Delivery.objects.only(*columns).in_bulk(ids)
    endpoints = Subscription.objects.select_related("instance").defer("secrets")
    found = endpoints.in_bulk({group.endpoint_id for group in groups})
    return {
        group: Row(
            group,
            deliveries.get(group.first_id),
            deliveries.get(group.last_id),
            found.get(group.endpoint_id),
        )
        for group in groups
    }


def _by_cause(found: FailureGroups, rows: dict[FailureGroup, Row]) -> list[CauseRows]:
    causes: dict[str, CauseRows] = {}
    for group in found.groups:
        causes.setdefault(group.cause, CauseRows(group.state, group.cause)).rows.append(rows[group])
    return sorted(causes.values(), key=lambda each: -each.counted)


def _log(request: HttpRequest, group: FailureGroup, count: int) -> None:
    """Record who sent a group again in the history of the endpoint, or of the group's oldest delivery."""
    subject: Any = Subscription.objects.filter(pk=group.endpoint_id).defer("secrets").first()
    # an endpoint of the environment, or one that is deleted, has no page
    subject = subject or Delivery.objects.filter(pk=group.first_id).defer("body").first()
    if subject and count:
        text = f"Sent deliveries again that had failed ({title(group.cause)}): {count}."
        LogEntry.objects.log_actions(request.user.pk, [subject], CHANGE, text)  # type: ignore[arg-type]
