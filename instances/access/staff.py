"""Staff users: the permissions of their roles, the instances that each may see, and whether he reads what messages say.

`docs/rights.md` explains the roles. Every page and query for staff users goes through these functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import Permission
from django.db.models import Q, QuerySet

from instances.access.rights import OWN_APPS, ROLES, RoleRights, role_of, sees_content
from instances.crypto import digests
from instances.models import ApiKey, Instance, StaffRole

Rows = TypeVar("Rows", bound="QuerySet[Any]")

__all__ = [
    "RoleBackend",
    "may_manage_users",
    "opens_beyond",
    "role_permissions",
    "sees_all_instances",
    "sees_content",
    "sees_instance",
    "visible_ids",
    "visible_instances",
    "visible_keys",
    "within_limit",
]


def sees_all_instances(user: Any) -> bool:
    """Return whether the user is limited to no list of instances; he may see global rows, too."""
    if not (user.is_active and user.is_staff):
        return False
    role = None if user.is_superuser else getattr(user, "staff_role", None)
    return role is None or not role.is_limited


def visible_ids(user: Any) -> QuerySet[Any, UUID]:
    """Return the ids of the instances that a user may see, as a subquery."""
    if sees_all_instances(user):
        return Instance.objects.order_by().values_list("pk", flat=True)
    limits: Any = StaffRole.instances.through
    if not (user.is_active and user.is_staff):
        return limits.objects.none().values_list("instance_id", flat=True)
    return limits.objects.filter(staffrole_id=user.staff_role.pk).values_list("instance_id", flat=True)


def visible_instances(user: Any) -> QuerySet[Instance]:
    """Return the instances that a user may see, by whichever page."""
    if sees_all_instances(user):
        return Instance.objects.all()
    return Instance.objects.filter(pk__in=visible_ids(user))


def within_limit(user: Any, rows: Rows, lookup: str) -> Rows:
    """Return those rows that belong to an instance that the user may see.

    `lookup` is the rows' column of the instance's id, such as "instance_id". Rows of no instance, and of deleted ones,
    are for users who see all.
    """
    return rows if sees_all_instances(user) else rows.filter(**{f"{lookup}__in": visible_ids(user)})


def sees_instance(user: Any, instance_id: UUID | None) -> bool:
    """Return whether a user may see this instance, or for None what belongs to all instances."""
    if sees_all_instances(user):
        return True
    return instance_id is not None and visible_ids(user).filter(instance_id=instance_id).exists()


def visible_keys(user: Any) -> QuerySet[ApiKey]:
    """Return the keys that open nothing but instances which the user may see; a key of all instances opens more."""
    if sees_all_instances(user):
        return ApiKey.objects.all()
    instances: Any = ApiKey.instances.through
    own = instances.objects.filter(instance_id__in=visible_ids(user)).values("apikey_id")
    others = instances.objects.exclude(instance_id__in=visible_ids(user)).values("apikey_id")
    return ApiKey.objects.filter(all_instances=False, pk__in=own).exclude(pk__in=others)


def opens_beyond(user: Any, token_digests: Sequence[str]) -> bool:
    """Return whether a token, given by its digests, opens more than a user may: then it is not for him to read.

    The operator may give an instance the token of another one, or a key; `Access.digests_beyond` is the same for keys.
    """
    if user.is_superuser:
        return False
    if not set(token_digests).isdisjoint(digests(settings.AUTHENTICATION_API_KEY)):
        return True
    if sees_all_instances(user):
        return False
    others = Instance.objects.filter(token_digest__in=token_digests).exclude(pk__in=visible_ids(user))
    keys = ApiKey.objects.filter(digest__in=token_digests).exclude(pk__in=visible_keys(user).values("pk"))
    return others.exists() or keys.exists()


def may_manage_users(user: Any) -> bool:
    """Return whether a user may see and change other users, besides the permissions that this takes.

    A user who is limited, or reads no content, could make himself one who is not.
    """
    return sees_all_instances(user) and sees_content(user)


class RoleBackend(BaseBackend):
    """An authentication backend that adds the permissions of the user's role; nobody logs in by it."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        role = self._role(user_obj, obj)
        return role is not None and role.has_perm(perm)

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        """Return whether the role has any permission of an application."""
        role = self._role(user_obj)
        return role is not None and app_label in role.apps

    def get_user_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        role = self._role(user_obj, obj)
        if role is None:
            return set()
        rows = Permission.objects.filter(role_permissions(role)).values_list("content_type__app_label", "codename")
        return {f"{app}.{codename}" for app, codename in rows.order_by()}

    def _role(self, user: Any, obj: Any = None) -> RoleRights | None:
        is_eligible = user.is_active and user.is_staff and not user.is_anonymous and obj is None
        return role_of(user) if is_eligible else None


def role_permissions(role: RoleRights | str) -> Q:
    """Return the condition for the permissions of a role, or of the role of this name."""
    rights = ROLES[role] if isinstance(role, str) else role
    condition = Q(pk__in=[])
    for verb in rights.verbs:
        condition |= Q(content_type__app_label__in=OWN_APPS, codename__startswith=f"{verb}_")
    for permission in rights.permissions:
        app, _, codename = permission.partition(".")
        condition |= Q(content_type__app_label=app, codename=codename)
    return condition
