"""The context of the first page: problems and charts of what its user may see, in at most ten queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from instances.access.staff import sees_all_instances, visible_ids, visible_instances
from instances.admin import admin_url
from instances.models import Instance, Subscription
from instances.unreadable import readable
from realtime.admin.overview import charts, problems
from realtime.admin.overview.hour_filters import DAY_HOURS, SLOW_HOURS
from realtime.admin.overview.pending import Pending, pending_deliveries
from realtime.admin.overview.problems import Endpoints, Problem
from realtime.counters.figures import Figures, figures_of_all, figures_of_instances, slowest_endpoints
from realtime.counters.hours import last_hours
from realtime.delivery.models import Delivery
from realtime.log.models import Event
from realtime.operation.models import Process

#: Endpoints that are listed as the slowest.
SLOWEST = 5


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the index with `problems`, `charts`, `ranking` and more; unfold calls it."""
    return context | {"title": "Overview"} | _Overview(request).context()


class _Overview:
    def __init__(self, request: HttpRequest) -> None:
        self.user = request.user
        self.sees_all = sees_all_instances(request.user)
        self.ids = None if self.sees_all else visible_ids(request.user)
        self.sees_instances, self.sees_endpoints, self.sees_events, self.sees_deliveries, self.sees_processes = (
            _may_see(request, model) for model in (Instance, Subscription, Event, Delivery, Process)
        )

    def context(self) -> dict[str, Any]:
        hours = last_hours(DAY_HOURS)
        figures = figures_of_all(hours) if self.ids is None else figures_of_instances(hours, self.ids)
        processes = readable(Process.objects.all()) if self.sees_processes else []
        slowest = (
            slowest_endpoints(last_hours(SLOW_HOURS), SLOWEST, self.ids)
            if self.sees_endpoints and self.sees_deliveries
            else None
        )
        endpoints = self._endpoints([row.endpoint_id for row in slowest or () if row.endpoint_id > 0])
        found = list(self._problems(figures, processes, endpoints))
        found.sort(key=lambda problem: -problem.gravity)
        shown = []
        if self.sees_events:
            shown.append(charts.event_chart(figures))
        if self.sees_deliveries:
            shown.append(charts.delivery_chart(figures))
        if self.sees_processes:
            running = [process for process in processes if process.is_running]
            connections = sum(process.connections for process in running)
            shown.append(charts.connection_chart(figures, connections, admin_url("changelist", Process)))
            shown.append(charts.lag_chart(figures, max((process.relay_lag_ms for process in running), default=0)))
        return {
            "problems": found,
            "charts": shown,
            "ranking": charts.ranking(slowest, endpoints.names) if slowest is not None and endpoints else None,
            "counted_at": figures.counted_at,
            "is_limited": not self.sees_all,
        }

    def _endpoints(self, others: list[int]) -> Endpoints | None:
        if not self.sees_endpoints:
            return None
        rows = Subscription.objects.endpoints()
        return Endpoints(rows if self.ids is None else rows.filter(instance_id__in=self.ids), others)

    def _problems(self, figures: Figures, processes: list[Process], endpoints: Endpoints | None) -> Iterator[Problem]:
        if self.sees_instances:
            yield from problems.of_instances(visible_instances(self.user))
        pending = Pending(0, None, {})
        if self.sees_deliveries:
            pending = pending_deliveries(self.ids, [row.pk for row in endpoints.failing] if endpoints else [])
            yield from problems.of_deliveries(pending, figures)
        if endpoints:
            yield from endpoints.problems(pending.of_endpoints)
        if self.sees_events:
            yield from problems.of_drops(figures)
        if self.sees_processes:
            yield from problems.of_processes(processes, figures.counted_at)
            yield from problems.of_disk()


def _may_see(request: HttpRequest, model: type[Model]) -> bool:
    return bool(admin.site.get_model_admin(model).has_view_permission(request))
