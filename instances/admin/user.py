"""Admin pages of users, their roles, and groups: nobody gives a permission, role or instance that he lacks himself."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, StackedInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from instances.access.rights import ROLES, role_of
from instances.access.staff import may_manage_users, role_permissions
from instances.models import StaffRole

admin.site.unregister((User, Group))


def own_permissions(user: Any) -> QuerySet[Permission]:
    """Return the permissions that a user has himself, by his groups and by his role, whether he is active or not.

    A superuser has all.
    """
    if user.is_superuser:
        return Permission.objects.all()
    role = role_of(user)
    by_role = role_permissions(role) if role else Q(pk__in=[])
    return Permission.objects.filter(Q(user=user) | Q(group__user=user) | by_role).distinct()


class WithinOwnPermissions(ModelAdmin):
    """Pages on which a user who is no superuser gives his own permissions alone, and changes what has no others.

    They are closed to users who are limited to some instances and to viewers.
    """

    filter_horizontal: Any = ()  # Django's two boxes are wider than a phone; checkboxes wrap

    def permissions_of(self, obj: Any) -> QuerySet[Permission]:
        """Return the permissions that the object of such a page has."""
        raise NotImplementedError

    def is_within(self, request: HttpRequest, obj: Any) -> bool:
        """Return whether the object has no permission that the user lacks."""
        if request.user.is_superuser or obj is None:
            return True
        lacking = self.permissions_of(obj).exclude(pk__in=own_permissions(request.user).values("pk"))
        return not getattr(obj, "is_superuser", False) and not lacking.exists()

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_manage_users(request.user) and super().has_module_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_manage_users(request.user) and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_manage_users(request.user) and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may_change = may_manage_users(request.user) and super().has_change_permission(request, obj)
        return may_change and self.is_within(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may_delete = may_manage_users(request.user) and super().has_delete_permission(request, obj)
        return may_delete and self.is_within(request, obj)

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        """Offer the permissions, and the groups, that have none which the user lacks."""
        kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)
        if db_field.related_model is Permission:
            field.queryset = field.queryset.select_related("content_type")  # each is shown with it
        own = own_permissions(request.user)
        if request.user.is_superuser:
            pass
        elif db_field.related_model is Permission:
            field.queryset = field.queryset.filter(pk__in=own.values("pk"))
        elif db_field.related_model is Group:
            others = Permission.objects.exclude(pk__in=own.values("pk"))
            field.queryset = field.queryset.exclude(permissions__in=others)
        return field


class StaffRoleForm(forms.ModelForm):
    """The role of a user; roles with permissions that the editor lacks are not offered."""

    #: The names of the roles that the editor can give.
    offered_roles: frozenset[str] = frozenset(ROLES)

    class Meta:
        model = StaffRole
        fields = ("role", "is_limited", "instances")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields.get("role")
        if field:
            field.choices = [("", "-"), *(choice for choice in field.choices if choice[0] in self.offered_roles)]
            if self.instance._state.adding:
                self.initial["role"] = ""  # a form that is left as it is shown adds no role
            field.help_text = (
                "It adds its permissions to those of groups and single ones: docs/rights.md has the table."
            )


class StaffRoleInline(StackedInline):
    """The role on the page of a user. It takes the permission to change the user, and no other."""

    model = StaffRole
    form = StaffRoleForm
    autocomplete_fields = ("instances",)
    verbose_name_plural = "role"

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        formset: Any = super().get_formset(request, obj, **kwargs)
        formset.form.offered_roles = frozenset(name for name in ROLES if has_role(request.user, name))
        return formset

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._page.has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._page.has_change_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._page.has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._page.has_change_permission(request, obj)

    @property
    def _page(self) -> admin.ModelAdmin:
        return self.admin_site.get_model_admin(User)


def has_role(user: Any, role: str) -> bool:
    """Return whether a user has all permissions of a role."""
    lacking = Permission.objects.filter(role_permissions(role)).exclude(pk__in=own_permissions(user).values("pk"))
    return user.is_superuser or not lacking.exists()


@admin.register(User)
class LimitedUserAdmin(WithinOwnPermissions, UserAdmin):
    list_select_related = ("staff_role",)
    # the role comes behind these: the long list of permissions is closed, so that it can be seen
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Personal info", {"fields": ("first_name", "last_name", "email")}),
        ("Account", {"fields": ("is_active", "is_staff", "is_superuser", "last_login", "date_joined")}),
        ("Groups and single permissions", {"fields": ("groups", "user_permissions"), "classes": ("collapse",)}),
    )
    inlines = (StaffRoleInline,)
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def permissions_of(self, obj: Any) -> QuerySet[Permission]:
        return own_permissions(obj)

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """Show the role on the page of a user, not where one is added, as with his permissions."""
        return self.inlines if obj else ()

    def get_list_display(self, request: HttpRequest) -> Any:
        return (*super().get_list_display(request), "role")

    @admin.display(description="role", empty_value="-")
    def role(self, user: Any) -> str:
        if user.is_superuser:
            return "Administrator (superuser)"
        return str(getattr(user, "staff_role", ""))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *(() if request.user.is_superuser else ("is_superuser",)))


@admin.register(Group)
class LimitedGroupAdmin(WithinOwnPermissions, GroupAdmin):
    def permissions_of(self, obj: Any) -> QuerySet[Permission]:
        return obj.permissions.all()
