"""The health of endpoints in words: of 24 hours by the hourly counts, and what is to come."""

from __future__ import annotations

from django.utils.html import format_html

from instances.admin import admin_url, format_time
from instances.models import Subscription
from realtime.admin.overview.words import milliseconds, percent, plural
from realtime.api.responses import HEALTH_HOURS
from realtime.counters.figures import EndpointFigures, last_error
from realtime.delivery.models import Delivery, State

#: Hours that the figures are of, as in REST.
HOURS = HEALTH_HOURS
#: Parts of the attempts that succeed, below which an endpoint is shown as bad, and as one to look at.
BAD, FAIR = 0.5, 0.95


def success(figures: EndpointFigures | None) -> str:
    """Return the part of the attempts that succeeded, with their number."""
    if figures is None or not figures.attempts:
        return "no attempts"
    rate = figures.success_rate
    level = "bad" if rate < BAD else "warn" if rate < FAIR else "good"
    attempts = plural(figures.attempts, "attempt")
    return format_html('<span class="{}">{}</span> of {}', level, percent(rate), attempts)


def latency(figures: EndpointFigures | None) -> str:
    """Return how long attempts took, on average and at most."""
    if figures is None or not figures.attempts:
        return "-"
    return f"{milliseconds(figures.mean_ms)} on average, {milliseconds(figures.max_ms)} at most"


def next_attempt(endpoint: Subscription) -> str:
    """Return when the next delivery is due, with a link to it."""
    pending = Delivery.objects.filter(state=State.PENDING, endpoint_id=endpoint.pk).only("due_at", "lease")
    # each by the index of what is due
    found = [pending.filter(is_ordered=each).order_by("due_at", "id").first() for each in (False, True)]
    waiting = sorted((delivery for delivery in found if delivery), key=lambda delivery: delivery.due_at)
    if not waiting:
        return "none: nothing is pending"
    if not endpoint.is_enabled:
        return "none while it is off"
    text = "is under way" if waiting[0].lease else f"due {format_time(waiting[0].due_at)}"
    return format_html('<a href="{}">{}</a>', admin_url("change", Delivery, waiting[0].pk), text)


def last_failure(endpoint: Subscription) -> str:
    """Return the last error of the last hours with one, and a link to the failures by cause."""
    error = Subscription.objects.filter(pk=endpoint.pk).values_list(last_error(), flat=True).order_by().first()
    if not error:
        return "none"
    if endpoint.instance_id is None:
        return error
    url = admin_url("failures", Delivery, instance_id=endpoint.instance_id)
    return format_html('{}. <a href="{}">Failures by cause</a>', error, url)
