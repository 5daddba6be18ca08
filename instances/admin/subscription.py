from __future__ import annotations

import time
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import AdminForm
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html_join
from django.utils.text import Truncator
from django.views.decorators.http import require_POST

from instances.access.rights import Action, may
from instances.access.staff import sees_all_instances
from instances.admin.base import admin_url, format_time, pretty_json
from instances.admin.forms import subscription_form
from instances.admin.rotation import RotationForm
from instances.admin.secret import SecretAdmin, explain_unreadable
from instances.admin.transport_fields import field_names, transport_of
from instances.api.transports import declared_transports, registered_transports
from instances.crypto import MASK, UnreadableSecret
from instances.models import Subscription
from instances.outbound.inbox_urls import check_receiver
from instances.outbound.signing_secrets import active_secrets, overlap_end, rotated, with_overlap
from instances.outbound.webhook_secrets import new_secret
from instances.outbound.webhook_urls import masked_url


class SubscriptionStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("ok", "Ok"), ("failing", "Failing"), ("disabled", "Switched off automatically"), ("off", "Off")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() in ("ok", "failing"):
            return queryset.filter(is_enabled=True, failing_since__isnull=self.value() == "ok")
        if self.value() == "disabled":
            return queryset.filter(is_enabled=False).exclude(disabled_reason="")
        if self.value() == "off":
            return queryset.filter(is_enabled=False, disabled_reason="")
        return queryset


class SubscriptionTransportFilter(admin.SimpleListFilter):
    """Filter by transport; the choices are the registered ones, as a DISTINCT would read all subscriptions."""

    title = "transport"
    parameter_name = "transport"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in (Subscription.WEBSOCKET, *registered_transports())]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(transport=self.value()) if self.value() else queryset


@admin.register(Subscription)
class SubscriptionAdmin(SecretAdmin):
    """The page of subscriptions; `realtime` registers a subclass with columns of deliveries."""

    list_display = ("instance_name", "transport", "is_enabled", "state", "destination", "shown_events")
    list_filter = (SubscriptionStateFilter, SubscriptionTransportFilter)
    list_select_related = ("instance",)
    search_fields = ("instance__name",)
    search_help_text = "Instance name"
    # its fields depend on the transports that are registered
    form = property(lambda self: subscription_form())
    autocomplete_fields = ("instance",)
    actions: tuple[str, ...] = ("switch_on",)
    secret_name = "Signing secret"  # noqa: S105
    secret_note = (
        "Deliveries are signed with it (Standard Webhooks) and, after a rotation, with the previous one too. "  # noqa: S105
        "It is not shown again."
    )

    class Media:
        js = ("instances/subscription.js", "instances/event-checkboxes.js")

    def has_change_permission(self, request: HttpRequest, obj: Subscription | None = None) -> bool:
        """Return whether the user may change subscriptions, by which he can have their events sent to himself."""
        return may(request.user, Action.CHANGE_SUBSCRIPTION) and super().has_change_permission(request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        general = ["instance", "transport", "is_enabled"]
        webhook = ["url", "by_events", "base64", "ordered", "follow_redirects"]
        if obj is None:
            return [
                (None, {"fields": (*general, "events")}),
                ("Webhook", {"fields": (*webhook, "headers"), "classes": ("of-transport", "of-webhook")}),
                *(
                    (each.title, {"fields": [*names.values()], "classes": ("of-transport", f"of-{each.name}")})
                    for each in declared_transports()
                    if (names := field_names(each))
                ),
            ]
        general += ["state", "events"] if obj.is_endpoint else ["events"]
        fieldsets: list[Any] = [(None, {"fields": general})]
        if obj.transport == Subscription.WEBHOOK and self.has_change_permission(request, obj):
            fieldsets.append(("Webhook", {"fields": (*webhook, "signing", "stored_headers", "headers")}))
        elif (
            (transport := transport_of(obj.transport)) and transport.fields and self.has_change_permission(request, obj)
        ):
            fieldsets.append((transport.title, {"fields": [*field_names(transport).values()]}))
        elif obj.is_endpoint:
            fieldsets.append((obj.transport.capitalize(), {"fields": ("shown_options", "stored_headers")}))
        return fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Subscription | None = None) -> Any:
        return ("instance", "transport", "state", "shown_options", "signing", "stored_headers") if obj else ()

    def get_form(
        self, request: HttpRequest, obj: Subscription | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.may_show_credentials = may(request.user, Action.SHOW_CREDENTIALS)
        form.may_add_webhook = may(request.user, Action.ADD_WEBHOOK)
        form.may_serve_all_instances = sees_all_instances(request.user)
        return form

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        context["may_rotate_secret"] = may(request.user, Action.ROTATE_SECRET)
        endpoint = context.get("original")
        stored = endpoint.shown_secrets if endpoint else {}
        context["has_old_secret"] = len(active_secrets(stored, time.time())) > 1
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        rotate = self.admin_site.admin_view(self.rotate_view)
        drop = self.admin_site.admin_view(require_POST(self.drop_secret_view))
        return [
            path("<path:object_id>/rotate/", rotate, name="instances_subscription_rotate"),
            path("<path:object_id>/drop-secret/", drop, name="instances_subscription_drop_secret"),
            *super().get_urls(),
        ]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Lock the row while it is changed: its secrets are one column, and another change must not undo a rotation."""
        obj = super().get_object(request, object_id, from_field)
        if obj is None or request.method != "POST" or not connection.in_atomic_block:
            return obj
        # ordered by id: the default ordering joins instances, whose nullable side PostgreSQL cannot lock
        return Subscription.objects.select_for_update().filter(pk=obj.pk).order_by("pk").first()

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        changelist.result_list = changelist.result_list.defer("secrets")
        return changelist

    @admin.display(description="instance", ordering="instance__name")
    def instance_name(self, subscription: Subscription) -> str:
        return subscription.instance.name if subscription.instance else "all instances"

    @admin.display(description="destination")
    def destination(self, subscription: Subscription) -> str:
        """Return where it sends to, without credentials."""
        transport = registered_transports().get(subscription.transport)
        return Truncator(transport.target(subscription.options) if transport else "").chars(60)

    @admin.display(description="state")
    def state(self, subscription: Subscription) -> str:
        if not subscription.is_enabled:
            return f"switched off: {subscription.disabled_reason}" if subscription.disabled_reason else "off"
        if subscription.failing_since:
            return f"failing since {format_time(subscription.failing_since)}"
        return "ok"

    @admin.display(description="events", empty_value="none")
    def shown_events(self, subscription: Subscription) -> str:
        names = subscription.events
        if not names and subscription.is_enabled:
            return "all"
        return ", ".join(names) if len(names) < 3 else f"{len(names)} events"

    @admin.display(description="options")
    def shown_options(self, subscription: Subscription) -> str:
        """Return the options; this is shown to users who may not change them, and so without credentials."""
        url = subscription.options.get("url")
        return pretty_json(subscription.options | ({"url": masked_url(url)} if isinstance(url, str) else {}))

    @admin.display(description="signing")
    def signing(self, subscription: Subscription) -> str:
        """Return how many secrets sign, and until when the old one does."""
        try:
            stored, now = subscription.all_secrets, time.time()
        except UnreadableSecret as error:
            return f"cannot be read. {error}"
        count, end = len(active_secrets(stored, now)), overlap_end(stored, now)
        if count < 2:
            return "signs with one secret" if count else "is not signed"
        until = f"until {format_time(end)}" if end else "until the old one is ended"
        return f"signs with two secrets {until}"

    @admin.display(description="stored headers")
    def stored_headers(self, subscription: Subscription) -> str:
        try:
            names = subscription.secret("headers") or {}
        except UnreadableSecret as error:
            return f"cannot be read. {error}"
        return format_html_join("", "<div>{}: {}</div>", ((name, MASK) for name in names)) or "none"

    def save_model(self, request: HttpRequest, obj: Subscription, form: Any, change: bool) -> None:
        """Store websocket settings by `set_websocket`, which implements Evolution's rules."""
        if obj.instance is None or obj.transport != Subscription.WEBSOCKET:
            super().save_model(request, obj, form, change)
            if form.removed_secrets:
                self.message_user(request, form.removed_secrets, messages.WARNING)
            return
        stored = Subscription.set_websocket(obj.instance, obj.is_enabled, obj.events)
        obj.__dict__.update(stored.__dict__)

    def response_add(
        self, request: HttpRequest, obj: Subscription, post_url_continue: str | None = None
    ) -> HttpResponse:
        if obj.transport != Subscription.WEBHOOK:
            return super().response_add(request, obj, post_url_continue)
        return self.show_once(request, obj, obj.secret("signing")[0])

    @explain_unreadable
    def rotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask how long the old secret goes on signing; then make a new one, and show it once."""
        with transaction.atomic():
            endpoint = self._rotatable(request, object_id)
            form = RotationForm(request.POST if request.method == "POST" else None)
            if not form.is_valid():
                return self._rotation_page(request, endpoint, form)
            secret, now = new_secret(), time.time()
            values = rotated(endpoint.all_secrets, secret, form.cleaned_data["overlap"], now)
            endpoint.keep_secrets(**values)
            endpoint.save(update_fields=["secrets", "updated_at"])
            end = overlap_end(values, now)
            old = f" The old one signs as well until {format_time(end)}." if end else ""
            self.log_change(request, endpoint, f"Rotated the signing secret.{old}")
        return self.show_once(request, endpoint, secret)

    def _rotation_page(self, request: HttpRequest, endpoint: Subscription, form: RotationForm) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"Rotate the signing secret of {endpoint}",
            "opts": self.opts,
            "original": endpoint,
            "form": form,
            "fieldsets": AdminForm(form, [(None, {"fields": ["overlap"]})], {}, model_admin=self),  # type: ignore[arg-type]
            "media": self.media + form.media,
        }
        return TemplateResponse(request, "admin/instances/subscription/rotate.html", context)

    @explain_unreadable
    def drop_secret_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End the old secret of a rotation now."""
        with transaction.atomic():
            endpoint = self._rotatable(request, object_id)
            stored, now = endpoint.all_secrets, time.time()
            if has_old := len(active_secrets(stored, now)) > 1:
                endpoint.keep_secrets(**with_overlap(stored, 0, now))
                endpoint.save(update_fields=["secrets", "updated_at"])
                self.log_change(request, endpoint, "Ended the old signing secret.")
        text = "The old secret signs no more." if has_old else "There is no old secret any more."
        self.message_user(request, text, messages.SUCCESS if has_old else messages.WARNING)
        return HttpResponseRedirect(admin_url("change", Subscription, endpoint.pk))

    def _rotatable(self, request: HttpRequest, object_id: str) -> Subscription:
        endpoint: Subscription = self.get_changeable(request, object_id)
        if not may(request.user, Action.ROTATE_SECRET):
            raise PermissionDenied
        if endpoint.transport != Subscription.WEBHOOK:
            raise Http404
        return endpoint

    @admin.action(description="Switch on selected endpoints", permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet) -> None:
        count = 0
        with transaction.atomic():
            rows = Subscription.objects.endpoints().filter(pk__in=queryset.values("pk"))
            for endpoint in rows.select_for_update().order_by("pk"):
                try:
                    self._switch_on(request, endpoint)
                    count += 1
                except ValueError as error:
                    text = f"{endpoint} ({self.destination(endpoint)}) stays off. {error}."
                    self.message_user(request, text, messages.ERROR)
        self.message_user(request, f"Switched on: {count}.", messages.SUCCESS if count else messages.WARNING)

    def _switch_on(self, request: HttpRequest, endpoint: Subscription) -> None:
        """Enable an endpoint and reset its failures. Raises ValueError if it cannot be used."""
        if endpoint.transport == Subscription.WEBHOOK:
            check_receiver(endpoint.options.get("url", ""))
        elif transport := transport_of(endpoint.transport):
            transport.check(endpoint.instance)
        endpoint.is_enabled, endpoint.failing_since, endpoint.disabled_reason = True, None, ""
        endpoint.save(update_fields=["is_enabled", "failing_since", "disabled_reason", "updated_at"])
        self.log_change(request, endpoint, "Switched on again.")
