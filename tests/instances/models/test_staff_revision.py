"""Changes of staff users bump the access revision, in their transaction; what changes no access does not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import user_logged_in
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from instances.models import AccessRevision, Instance, StaffRole

pytestmark = pytest.mark.any_database


@pytest.fixture
def user(db) -> User:
    user = User.objects.create(username="staff", is_staff=True)
    group = Group.objects.create(name="group")
    group.permissions.add(Permission.objects.get(codename="view_event"))
    user.groups.add(group)
    user.user_permissions.add(Permission.objects.get(codename="view_chat"))
    return user


@pytest.fixture
def role(user) -> StaffRole:
    role = StaffRole.objects.create(user=user, role="operator", is_limited=True)
    role.instances.add(Instance.objects.create(name="loja"))
    return role


def bumps(change: Any) -> bool:
    before = AccessRevision.current()
    change()
    return AccessRevision.current() != before


CHANGES = {
    "saved": lambda user: user.save(),
    "deactivated": lambda user: user.save(update_fields=["is_active"]),
    "deleted": lambda user: user.delete(),
    "deleted by a query": lambda user: User.objects.filter(pk=user.pk).delete(),
    "permission": lambda user: user.user_permissions.clear(),
    "group left": lambda user: user.groups.remove(Group.objects.get()),
    "removed from the group": lambda user: Group.objects.get().user_set.clear(),
    "permission of the group": lambda user: Group.objects.get().permissions.set([]),
    "group deleted": lambda user: Group.objects.all().delete(),
    "role": lambda user: user.staff_role.save(),
    "role deleted": lambda user: user.staff_role.delete(),
    "roles deleted by a query": lambda user: StaffRole.objects.all().delete(),
    "limit": lambda user: user.staff_role.instances.clear(),
    "removed from the instance": lambda user: Instance.objects.get().staff_roles.clear(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_staff_user_bumps_it(user, role, change):
    assert bumps(lambda: CHANGES[change](user))


def test_logging_out_bumps_it_and_logging_in_does_not(user):
    client = Client()
    assert not bumps(lambda: client.force_login(user))
    assert not bumps(lambda: user_logged_in.send(User, user=user, request=None))
    assert bumps(client.logout)


def test_sessions_that_have_expired_and_those_of_nobody_do_not_bump_it(user):
    client = Client()
    client.force_login(user)
    Session.objects.update(expire_date=timezone.now() - timedelta(hours=1))
    assert not bumps(lambda: Session.objects.all().delete())
    session = Client().session
    session.save()
    assert not bumps(lambda: Session.objects.all().delete())
