"""Roles of staff users: permissions from the table of rights, the limit to instances, and content."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User

from instances.access.rights import LISTEN, MANAGE, READ, RIGHTS, ROLES, SEND, scopes_of
from instances.access.staff import (
    may_manage_users,
    sees_all_instances,
    sees_content,
    sees_instance,
    visible_instances,
    within_limit,
)
from instances.models import Contact, Instance, StaffRole
from tests.staff_users import staff_user

pytestmark = pytest.mark.any_database


def all_permissions():
    rows = Permission.objects.values_list("content_type__app_label", "codename")
    return {f"{app}.{name}" for app, name in rows}


def test_every_role_is_in_the_table_with_permissions_that_exist(db):
    assert list(ROLES) == StaffRole.Role.values
    assert {name for role in ROLES.values() for name in role.permissions} <= all_permissions()


@pytest.mark.parametrize("role", list(ROLES))
def test_a_role_has_the_permissions_of_the_table(db, role):
    user = staff_user(role)
    expected = {name for name in all_permissions() if ROLES[role].has_perm(name)}
    assert user.get_all_permissions() == expected
    assert {name for name in all_permissions() if user.has_perm(name)} == expected
    assert user.has_module_perms("realtime")
    assert user.has_module_perms("auth") is (role == "administrator")
    for changed in ({"is_active": False}, {"is_staff": False}):
        User.objects.filter(pk=user.pk).update(**{"is_active": True, "is_staff": True} | changed)
        assert User.objects.get(pk=user.pk).get_all_permissions() == set()


def test_roles_have_scopes(db):
    assert scopes_of(staff_user("viewer")) == set()
    assert scopes_of(staff_user("operator")) == scopes_of(staff_user("administrator")) == set(RIGHTS)


def test_a_viewer_reads_no_content_whatever_his_permissions_are(db):
    viewer = staff_user("viewer")
    viewer.user_permissions.set(Permission.objects.all())
    viewer = User.objects.get(pk=viewer.pk)
    assert viewer.has_perm("instances.change_instance")
    assert not sees_content(viewer)
    assert not scopes_of(viewer) & {LISTEN, READ, MANAGE}
    assert SEND in scopes_of(viewer)
    assert not may_manage_users(viewer)


def test_a_limited_user_sees_his_instances_alone(db):
    mine, theirs = Instance.objects.create(name="mine"), Instance.objects.create(name="theirs")
    for instance in (mine, theirs):
        Contact.objects.create(instance=instance, remote_jid="1@s.whatsapp.net")
    limited, none = staff_user("operator", [mine]), staff_user("viewer", [])
    unlimited = [
        staff_user(),
        staff_user("operator"),
        staff_user("administrator"),
        staff_user("viewer", [mine], is_superuser=True),
    ]
    outside = [
        AnonymousUser(),
        staff_user(username="left", is_active=False),
        staff_user(username="customer", is_staff=False),
    ]

    def seen(user):
        rows = within_limit(user, Contact.objects.all(), "instance_id")
        names = set(visible_instances(user).values_list("name", flat=True))
        assert names == {contact.instance.name for contact in rows}
        assert names == {instance.name for instance in (mine, theirs) if sees_instance(user, instance.pk)}
        assert sees_instance(user, None) is sees_all_instances(user)
        return names

    assert seen(limited) == {"mine"}
    assert seen(none) == set()
    assert not any(map(sees_all_instances, (limited, none, *outside)))
    for user in unlimited:
        assert seen(user) == {"mine", "theirs"}
    for user in outside:
        assert seen(user) == set()
    mine.delete()
    assert seen(limited) == set()


def test_role_and_limit_are_read_once(db, django_assert_num_queries):
    user = staff_user("operator", [Instance.objects.create(name="mine")])
    with django_assert_num_queries(1):
        assert not sees_all_instances(user)
        assert sees_content(user)
    with django_assert_num_queries(1):
        assert len(visible_instances(user)) == 1
