from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.text import Truncator
from django.views.decorators.http import require_POST

from instances.access.rights import scopes_of
from instances.access.staff import sees_all_instances, visible_keys
from instances.admin.base import admin_url
from instances.admin.forms import ApiKeyForm
from instances.admin.secret import SecretAdmin
from instances.models import ApiKey, Instance


class KeyStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("usable", "Usable"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet:
        if self.value() == "usable":
            return queryset.usable()
        if self.value() == "expired":
            return queryset.filter(expires_at__lte=timezone.now(), revoked_at=None)
        if self.value() == "revoked":
            return queryset.exclude(revoked_at=None)
        return queryset


@admin.register(ApiKey)
class ApiKeyAdmin(SecretAdmin):
    list_display = ("name", "prefix", "state", "shown_scopes", "shown_instances", "last_used_at", "expires_at")
    list_filter = (KeyStateFilter, "all_instances")
    search_fields = ("name", "prefix")
    hidden_columns = ("digest",)
    form = ApiKeyForm
    fields = ("name", "scopes", "all_instances", "instances", "expires_at")
    readonly_fields = ("prefix", "state", "last_used_at", "revoked_at", "created_at")
    autocomplete_fields = ("instances",)
    actions = ("revoke_selected",)
    secret_name = "Key"  # noqa: S105
    secret_note = "It is shown only now: just its digest is stored, and it cannot be recovered."  # noqa: S105

    def within_limit(self, user: Any, rows: QuerySet) -> QuerySet:
        return rows if sees_all_instances(user) else rows.filter(pk__in=visible_keys(user).values("pk"))

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        is_limited = not sees_all_instances(request.user)
        fields = [name for name in self.fields if not (is_limited and name == "all_instances")]
        return (*fields, *self.readonly_fields) if obj else fields

    def get_form(self, request: HttpRequest, obj: ApiKey | None = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.offered_scopes = scopes_of(request.user)
        return form

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Return whether the user may change the key: its scopes must be his own. Any key can be revoked."""
        is_own = obj is None or set(obj.scopes) <= scopes_of(request.user)
        return is_own and super().has_change_permission(request, obj)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        context["may_revoke"] = self.has_change_permission(request)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.revoke_view))
        return [path("<path:object_id>/revoke/", view, name="instances_apikey_revoke"), *super().get_urls()]

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        changelist.result_list = changelist.result_list.prefetch_related(
            Prefetch("instances", Instance.objects.only("name"))
        )
        return changelist

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        return "revoked" if key.revoked_at else "usable" if key.is_usable else "expired"

    @admin.display(description="scopes")
    def shown_scopes(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="instances", empty_value="none")
    def shown_instances(self, key: ApiKey) -> str:
        if key.all_instances:
            return "all"
        return Truncator(", ".join(instance.name for instance in key.instances.all())).chars(80)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        fields = {"all_instances": obj.all_instances, "expires_at": obj.expires_at}
        key, secret = ApiKey.objects.issue(obj.name, obj.scopes, **fields)
        obj.__dict__.update(key.__dict__)
        obj.secret = secret  # for `response_add`; it is not a field

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self.show_once(request, obj, obj.secret)

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self.get_changeable(request, object_id)
        self._revoke(request, key)
        self.message_user(request, f"{key} is revoked.", messages.SUCCESS)
        return HttpResponseRedirect(admin_url("change", ApiKey, key.pk))

    @admin.action(description="Revoke selected API keys", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet) -> None:
        for key in queryset:
            self._revoke(request, key)
        self.message_user(request, "The selected keys are revoked.", messages.SUCCESS)

    def _revoke(self, request: HttpRequest, key: ApiKey) -> None:
        if key.revoked_at is None:
            key.revoke()
            self.log_change(request, key, "Revoked.")
