from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from instances.access.rights import Action, may
from instances.access.staff import opens_beyond, sees_all_instances
from instances.admin.base import admin_url, pretty_json
from instances.admin.forms import InstanceForm, NewInstanceForm
from instances.admin.secret import SecretAdmin, explain_unreadable
from instances.crypto import digests
from instances.integrations import integrations
from instances.models import Instance, Message, StaffRole, Subscription
from instances.models.instance import MIN_TOKEN_LENGTH


class IntegrationFilter(admin.SimpleListFilter):
    """Filter by integration; the choices are the providers, as a DISTINCT would read all instances."""

    title = "integration"
    parameter_name = "integration"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, integration.label) for name, integration in integrations().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(integration=self.value()) if self.value() else queryset


class WebsocketFilter(admin.SimpleListFilter):
    title = "websocket settings"
    parameter_name = "websocket"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("on", "On"), ("off", "Off"), ("none", "None (all events)")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == "none":
            return queryset.exclude(subscriptions__transport=Subscription.WEBSOCKET)
        if self.value() in ("on", "off"):
            is_enabled = self.value() == "on"
            return queryset.filter(
                subscriptions__transport=Subscription.WEBSOCKET, subscriptions__is_enabled=is_enabled
            )
        return queryset


class TokenFilter(admin.SimpleListFilter):
    """Find instances with a weak token: the operator may give any."""

    title = "token"
    parameter_name = "token_strength"  # "token" is a column that no query may look up

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("weak", "Weak"), ("short", f"Under {MIN_TOKEN_LENGTH} characters"), ("shared", "Shared")]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet:
        short, shared = Q(has_short_token=True), Q(has_shared_token=True)
        condition = {"weak": short | shared, "short": short, "shared": shared}.get(self.value() or "")
        return queryset.with_token_strength().filter(condition) if condition else queryset


@admin.register(Instance)
class InstanceAdmin(SecretAdmin):
    """The page of instances; `realtime` registers a subclass with columns of the log."""

    list_display = ("name", "shown_integration", "number", "state", "websocket", "stored_messages")
    list_filter = (IntegrationFilter, "connection_state", WebsocketFilter, TokenFilter)
    search_fields = ("name", "number", "business_id", "owner_jid", "profile_name")
    hidden_columns = ("token_digest",)
    instance_lookup = "pk"
    form = InstanceForm
    readonly_fields = (
        *(
            "name",
            "shown_integration",
            "token_strength",
            "websocket",
            "shown_settings",
            "id",
            "created_at",
            "updated_at",
        ),
    )
    secret_name = "Token"  # noqa: S105
    secret_note = "It gives full access to this instance."  # noqa: S105

    def get_fieldsets(self, request: HttpRequest, obj: Instance | None = None) -> Any:
        if obj is None:
            return [(None, {"fields": ("name", "integration", "number", "business_id", "own_token")})]
        profile = ("number", "business_id", "owner_jid", "profile_name", "profile_pic_url")
        return [
            (None, {"fields": ("name", "shown_integration", "connection_state", "token_strength", "websocket")}),
            ("WhatsApp", {"fields": profile}),
            ("More", {"fields": ("shown_settings", "id", "created_at", "updated_at"), "classes": ("collapse",)}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Instance | None = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_list_display(self, request: HttpRequest) -> Any:
        weak = ("token_strength",) if TokenFilter.parameter_name in request.GET else ()
        return (*super().get_list_display(request), *weak)

    def get_form(self, request: HttpRequest, obj: Instance | None = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **({} if obj else {"form": NewInstanceForm}) | kwargs)
        form.may_choose_token = may(request.user, Action.SHOW_TOKEN)
        return form

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        instance = context.get("original")
        context["may_show_token"] = may(request.user, Action.SHOW_TOKEN) and not (
            instance and opens_beyond(request.user, [instance.token_digest])
        )
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.token_view))
        return [path("<path:object_id>/token/", view, name="instances_instance_token"), *super().get_urls()]

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Load counts and settings for the rows of the page only, not for autocompletion or actions."""
        changelist = super().get_changelist_instance(request)
        sockets = Prefetch("subscriptions", Subscription.objects.for_sockets(), to_attr="for_sockets")
        # by their ids: behind an offset PostgreSQL would count for the rows of all pages before, too
        ids = changelist.result_list.values("pk")
        changelist.result_list = changelist.queryset.filter(pk__in=ids).counted().prefetch_related(sockets)
        return changelist

    @admin.display(description="integration", ordering="integration")
    def shown_integration(self, instance: Instance) -> str:
        return instance.provider.label

    @admin.display(description="state", ordering="connection_state")
    def state(self, instance: Instance) -> str:
        return instance.connection_state

    @admin.display(description="token")
    def token_strength(self, instance: Any) -> str:
        """Return in which way the token is weak; one that is shared is another instance's too, or a key."""
        if not hasattr(instance, "has_short_token"):
            instance = Instance.objects.with_token_strength().only("pk").get(pk=instance.pk)
        reasons = ["short"] * instance.has_short_token + ["shared"] * instance.has_shared_token
        return f"weak: {', '.join(reasons)}" if reasons else "ok"

    @admin.display(description="websocket")
    def websocket(self, instance: Instance) -> str:
        found = getattr(instance, "for_sockets", None)
        if found is None:
            found = list(instance.subscriptions.for_sockets())
        if not found:
            if not getattr(instance, "may_add_subscription", False):
                return "no settings"
            add = admin_url("add", Subscription, instance=instance.pk)
            return format_html('<a href="{}" title="Sockets receive all events. Add settings">no settings</a>', add)
        [websocket] = found
        text = f"on, {len(websocket.events)} events" if websocket.is_enabled else "off"
        return format_html('<a href="{}">{}</a>', admin_url("change", Subscription, websocket.pk), text)

    @admin.display(description="messages")
    def stored_messages(self, instance: Any) -> str:
        url = admin_url("changelist", Message, instance__id__exact=instance.pk)
        return format_html('<a href="{}">{}</a>', url, instance.message_count)

    @admin.display(description="settings")
    def shown_settings(self, instance: Instance) -> str:
        return pretty_json({name: value for name, value in instance.settings.items() if name != "wavoipToken"})

    def save_model(self, request: HttpRequest, obj: Instance, form: Any, change: bool) -> None:
        """Save the instance; one that a limited user creates is added to his."""
        super().save_model(request, obj, form, change)
        if not change and not sees_all_instances(request.user):
            StaffRole.objects.get(user=request.user.pk).instances.add(obj)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError:
            # another request took the name or number after this one was validated
            self.message_user(request, "This name or number has just been taken by another request.", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def response_add(self, request: HttpRequest, obj: Instance, post_url_continue: str | None = None) -> HttpResponse:
        is_typed = bool(request.POST.get("own_token", "").strip())
        if IS_POPUP_VAR in request.POST or is_typed or not may(request.user, Action.SHOW_TOKEN):
            return super().response_add(request, obj, post_url_continue)
        return self.show_once(request, obj, obj.token.reveal())

    @explain_unreadable
    def token_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        instance = self.get_changeable(request, object_id)
        if not may(request.user, Action.SHOW_TOKEN):
            raise PermissionDenied
        token = instance.token.reveal()
        if opens_beyond(request.user, digests(token)):
            raise PermissionDenied
        self.log_change(request, instance, "Showed the token.")
        return self.secret_page(request, instance, token)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Count the related rows instead of listing them: an instance has more messages than a page can hold."""
        instances: list[Any] = list(Instance.objects.filter(pk__in=[instance.pk for instance in objs]).counted())
        texts = [
            f"{i}, with its messages ({i.message_count}), contacts ({i.contact_count}) and chats ({i.chat_count})"
            for i in instances
        ]
        counts = {
            "instances": len(instances),
            "messages": sum(i.message_count for i in instances),
            "contacts": sum(i.contact_count for i in instances),
            "chats": sum(i.chat_count for i in instances),
        }
        return texts, counts, set(), []
