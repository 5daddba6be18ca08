"""The page of an instance: its state, QR code, timeline, subscriptions, keys and sockets, above the form."""

from __future__ import annotations

from typing import Any

from django.core import signing
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_GET

from instances.access.rights import Action, may
from instances.admin import admin_url
from instances.models import ConnectionState, Instance, Message
from realtime.admin.instance_page import parts
from realtime.admin.instance_page.actions import InstanceActions
from realtime.admin.instance_page.qr_code import QrCode, current_code, waits_for_code
from realtime.admin.instance_page.recent import shown_state
from realtime.admin.overview.hour_filters import DAY_HOURS, RecordedFilter
from realtime.admin.overview.svg import strip
from realtime.admin.overview.words import age, plural
from realtime.counters.figures import events_by_instance
from realtime.counters.hours import last_hours
from realtime.delivery.models import Delivery
from realtime.log.models import Event

#: Seconds for which a page goes on showing new codes after it was recorded that it shows them.
SHOWING = 3600
#: The salt of what proves that.
_SALT = "instance-qr-code"


class InstancePage(InstanceActions):
    """The admin of instances with all of a number on its page."""

    change_form_template = "admin/realtime/instance/page.html"

    class Media:
        css = {"all": ("realtime/overview.css", "realtime/admin.css", "realtime/instance.css")}
        js = ("realtime/qr-code.js",)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_GET(self.qr_code_view))
        return [path("<path:object_id>/qr-code/", view, name="instances_instance_qr_code"), *super().get_urls()]

    def get_fieldsets(self, request: HttpRequest, obj: Instance | None = None) -> Any:
        """Leave out of the form what is above it."""
        fieldsets = super().get_fieldsets(request, obj)
        return [
            (title, options | {"fields": [name for name in options["fields"] if name != "websocket"]})
            for title, options in fieldsets
        ]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        instance = context.get("original")
        if instance is not None:
            context["page"] = self._page(request, instance)
        return super().render_change_form(request, context, *args, **kwargs)

    def _page(self, request: HttpRequest, instance: Instance) -> dict[str, Any]:
        """Return what the page shows above the form, by at most twelve queries."""
        user = request.user
        counts = events_by_instance(last_hours(DAY_HOURS), [instance.pk])[instance.pk]
        timeline, subscriptions = parts.timeline(request, instance), parts.subscriptions(request, instance)
        sockets = parts.sockets(request, instance)
        state = shown_state(instance)
        may_log = bool(user.has_perm("realtime.view_event"))
        weakness = self._weakness(instance)
        return {
            "state": state,
            "since": age(state.since) if state.since else "",
            "weakness": weakness,
            "last_event": timeline[0] if timeline else None,
            "last_event_age": age(timeline[0].at) if timeline else "",
            "strip": strip(counts, f"{plural(sum(counts), 'event')} in 24 hours, {counts[-1]:,} in this one"),
            "day": plural(sum(counts), "event"),
            "day_url": may_log and admin_url("changelist", Event, instance_id=instance.pk, recorded=RecordedFilter.DAY),
            "timeline": timeline,
            "subscriptions": subscriptions,
            "keys": parts.keys(request, instance),
            "sockets": sockets,
            "shows_code": may(user, Action.SEE_QR_CODE) and waits_for_code(instance),
            "links": _links(request, instance),
            "may": {
                "connect": may(user, Action.CONNECT) and instance.connection_state != ConnectionState.OPEN,
                "restart": may(user, Action.CONNECT) and instance.connection_state == ConnectionState.OPEN,
                "log_out": may(user, Action.CONNECT) and instance.connection_state != ConnectionState.CLOSE,
                "rotate_token": may(user, Action.ROTATE_TOKEN),
                "send_message": may(user, Action.SEND_MESSAGE),
                "send_test": may(user, Action.SEND_TEST),
                "resend": may(user, Action.RESEND),
                "cut": may(user, Action.CUT) and may(user, Action.SEE_CONNECTED),
                "add_subscription": user.has_perm("instances.add_subscription"),
                "change_subscription": may(user, Action.CHANGE_SUBSCRIPTION),
                "add_webhook": may(user, Action.ADD_WEBHOOK),
            },
        }

    def _weakness(self, instance: Any) -> str:
        """Return in which way the token is weak, empty if it is not; the field of the form needs no further query."""
        found: Any = Instance.objects.with_token_strength().only("pk").get(pk=instance.pk)
        instance.has_short_token, instance.has_shared_token = found.has_short_token, found.has_shared_token
        strength = self.token_strength(instance)
        return "" if strength == "ok" else strength.removeprefix("weak: ")

    def qr_code_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return the state of the connection and, while it is not open, the code that the engine has published.

        `seq` in the query is that of the code which is shown already: the same one is not sent again. That codes are
        shown is recorded once for a page: its first answer has a `proof`, which the page sends along from then on.
        """
        instance = self.instance_for(request, object_id, Action.SEE_QR_CODE)
        code = current_code(instance)
        answer: dict[str, Any] = {
            "state": instance.connection_state,
            "isWaiting": waits_for_code(instance),
            "code": None,
            "proof": request.GET.get("proof", "")[:500],
        }
        if code is not None:
            if not self._is_recorded(request, instance, answer["proof"]):
                answer["proof"] = self._record(request, instance)
            answer["code"] = _code(code, request.GET.get("seq", ""))
        return JsonResponse(answer)

    def _record(self, request: HttpRequest, instance: Instance) -> str:
        """Record in the instance's history that its codes are shown; returns the proof."""
        self.log_change(request, instance, "Showed the QR code.")
        return signing.dumps([request.user.pk, str(instance.pk)], salt=_SALT)

    def _is_recorded(self, request: HttpRequest, instance: Instance, proof: str) -> bool:
        try:
            found = signing.loads(proof, salt=_SALT, max_age=SHOWING)
        except signing.BadSignature:
            return False
        return found == [request.user.pk, str(instance.pk)]


def _code(code: QrCode, seq: str) -> dict[str, Any]:
    shown = {"seq": code.seq, "age": int(code.age), "isFresh": code.is_fresh}
    if seq == str(code.seq):
        return shown
    return shown | {"picture": code.picture, "pairingCode": code.pairing_code, "message": code.message}


def _links(request: HttpRequest, instance: Instance) -> list[tuple[str, str]]:
    """Return the pages that show more of an instance, of those that the user may see."""
    may_see = request.user.has_perm
    pages = [
        ("realtime.view_event", "Live console", reverse("console:instance", args=[instance.name])),
        ("realtime.view_event", "Events", admin_url("changelist", Event, instance_id=instance.pk)),
        ("realtime.view_delivery", "Deliveries", admin_url("changelist", Delivery, instance_id=instance.pk)),
        ("instances.view_message", "Messages", admin_url("changelist", Message, instance__id__exact=instance.pk)),
        ("instances.view_instance", "History", admin_url("history", Instance, instance.pk)),
    ]
    return [(text, url) for permission, text, url in pages if may_see(permission)]
