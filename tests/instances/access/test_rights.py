"""The table of rights: one row for each scope, of permissions that exist, and the page that is made from it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User

from instances.access import rights
from instances.access.minted_tokens import Mintable
from instances.access.rights import LISTEN, MANAGE, PUBLISH, READ, RIGHTS, SEND, Action, may, scopes_of
from instances.models import ApiKey
from tests.server import ROOT

pytestmark = pytest.mark.any_database

ALL = frozenset(RIGHTS)


def test_the_page_is_the_table():
    assert (ROOT / "docs" / "rights.md").read_text() == rights.document(), "run `make rights`"


def test_every_scope_has_a_row_and_those_of_pages_are_among_them():
    assert list(RIGHTS) == ApiKey.Scope.values
    assert set(Mintable.values) <= ALL


def test_every_permission_of_the_table_exists(db):
    named = {name for right in RIGHTS.values() for name in (*right.permissions, right.or_else) if name}
    named |= {name for action in Action for name in action.permissions}
    existing = {f"{app}.{name}" for app, name in Permission.objects.values_list("content_type__app_label", "codename")}
    assert named <= existing


def user(*permissions):
    created = User.objects.create(username="staff", is_staff=True)
    codenames = [name.partition(".")[2] for name in permissions]
    created.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return created


@pytest.mark.parametrize(
    ("permissions", "scopes"),
    [
        ((), set()),
        (("add_apikey", "view_instance"), set()),
        (RIGHTS[LISTEN].permissions, {LISTEN}),
        (("instances.change_subscription",), {LISTEN}),
        (RIGHTS[READ].permissions, {LISTEN, READ}),
        (RIGHTS[SEND].permissions, {SEND}),
        (RIGHTS[PUBLISH].permissions, {PUBLISH}),
        (RIGHTS[MANAGE].permissions, {LISTEN}),
        ([name for right in RIGHTS.values() for name in right.permissions], ALL),
    ],
)
def test_a_user_has_the_scopes_whose_permissions_he_has(db, permissions, scopes):
    assert scopes_of(user(*permissions)) == scopes


def test_a_superuser_has_everything_and_a_user_without_permissions_nothing(db):
    superuser = User.objects.create(username="root", is_superuser=True)
    assert scopes_of(superuser) == ALL
    assert all(may(superuser, action) for action in Action)
    nobody = user()
    assert not any(may(nobody, action) for action in Action)
