"""Admin pages of users and groups: nobody gives a permission that he does not have himself."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q, QuerySet
from django.http import HttpRequest

admin.site.unregister((User, Group))


def own_permissions(user: Any) -> QuerySet[Permission]:
    """Return the permissions that a user has himself or by his groups, whether he is active or not; a superuser all."""
    if user.is_superuser:
        return Permission.objects.all()
    return Permission.objects.filter(Q(user=user) | Q(group__user=user)).distinct()


class WithinOwnPermissions(admin.ModelAdmin):
    """Pages on which a user who is no superuser gives his own permissions alone, and changes what has no others."""

    def permissions_of(self, obj: Any) -> QuerySet[Permission]:
        """Return the permissions that the object of such a page has."""
        raise NotImplementedError

    def is_within(self, request: HttpRequest, obj: Any) -> bool:
        """Return whether the object has no permission that the user lacks."""
        if request.user.is_superuser or obj is None:
            return True
        lacking = self.permissions_of(obj).exclude(pk__in=own_permissions(request.user).values("pk"))
        return not getattr(obj, "is_superuser", False) and not lacking.exists()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self.is_within(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self.is_within(request, obj)

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        """Offer the permissions, and the groups, that have none which the user lacks."""
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)
        own = own_permissions(request.user)
        if request.user.is_superuser:
            pass
        elif db_field.related_model is Permission:
            field.queryset = field.queryset.filter(pk__in=own.values("pk"))
        elif db_field.related_model is Group:
            others = Permission.objects.exclude(pk__in=own.values("pk"))
            field.queryset = field.queryset.exclude(permissions__in=others)
        return field


@admin.register(User)
class LimitedUserAdmin(WithinOwnPermissions, UserAdmin):
    def permissions_of(self, obj: Any) -> QuerySet[Permission]:
        return own_permissions(obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *(() if request.user.is_superuser else ("is_superuser",)))


@admin.register(Group)
class LimitedGroupAdmin(WithinOwnPermissions, GroupAdmin):
    def permissions_of(self, obj: Any) -> QuerySet[Permission]:
        return obj.permissions.all()
