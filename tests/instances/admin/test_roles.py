"""Roles and limits of staff users in the admin: who gives them, and what a limited user may save."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.urls import reverse

from instances.access.staff import sees_all_instances, visible_instances
from instances.models import ApiKey, Instance, StaffRole, Subscription
from tests.instances.admin.pages import at, errors_of
from tests.staff_users import client_of, staff_user

pytestmark = pytest.mark.any_database


@pytest.fixture
def log_in(db):
    """Return a client of a new staff user with a role, limited to `limit` unless that is None."""

    def log_in(role="", limit=None, permissions=()):
        user = staff_user(role, limit, permissions)
        client = client_of(user)
        client.user = user
        return client

    return log_in


@pytest.fixture
def mine(db):
    return Instance.objects.create(name="mine")


@pytest.fixture
def theirs(db):
    return Instance.objects.create(name="theirs")


def form_of(user, role="", limit=(), **fields):
    row = StaffRole.objects.filter(user=user).first()
    management = {"TOTAL_FORMS": 1, "INITIAL_FORMS": int(row is not None), "MIN_NUM_FORMS": 0, "MAX_NUM_FORMS": 1}
    form = {f"staff_role-{name}": value for name, value in management.items()}
    form |= {"username": user.username, "is_active": "on", "is_staff": "on"}
    form |= {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "last_login_0": "", "last_login_1": ""}
    form |= {"staff_role-0-id": row.pk if row else "", "staff_role-0-user": user.pk, "staff_role-0-role": role}
    form |= {"staff_role-0-is_limited": "on" if limit else "", "staff_role-0-instances": [each.pk for each in limit]}
    return form | fields


def give(client, user, *args, **kwargs):
    return client.post(at("change", User, user.pk), form_of(user, *args, **kwargs))


def test_an_administrator_gives_a_role_and_a_limit_which_the_history_shows(log_in, mine, theirs):
    administrator = log_in("administrator")
    user = User.objects.create(username="new")

    assert give(administrator, user, "operator", [mine]).status_code == 302

    user = User.objects.get(pk=user.pk)
    assert (user.staff_role.role, [*visible_instances(user)]) == ("operator", [mine])
    entry = LogEntry.objects.get(user=administrator.user)
    assert "Added role “Operator, limited”" in entry.get_change_message()
    assert "Added role" in administrator.get(at("history", User, user.pk)).content.decode()
    assert "Operator, limited" in administrator.get(at("changelist", User)).content.decode()
    assert give(administrator, user, "viewer").status_code == 302
    assert give(administrator, user, "viewer", **{"staff_role-0-DELETE": "on"}).status_code == 302
    assert not StaffRole.objects.filter(user=user).exists()


def test_a_user_whose_role_is_left_empty_gets_none(log_in):
    user = User.objects.create(username="new", is_staff=True)
    assert give(log_in("administrator"), user).status_code == 302
    assert not StaffRole.objects.filter(user=user).exists()


def test_an_administrator_cannot_be_limited(log_in, mine):
    user = User.objects.create(username="new")
    page = give(log_in("administrator"), user, "administrator", [mine]).content.decode()
    assert "An administrator has all instances" in page


@pytest.mark.parametrize("permissions", [("view_user", "change_user"), ("view_user", "change_user", "view_instance")])
def test_nobody_gives_a_role_with_permissions_that_he_lacks(log_in, permissions):
    editor = log_in(permissions=permissions)
    user = User.objects.create(username="new", is_staff=True)
    page = editor.get(at("change", User, user.pk)).content.decode()
    assert not re.search('<option value="(viewer|operator|administrator)"', page)
    for role in StaffRole.Role.values:
        assert "is not one of the available choices" in give(editor, user, role).content.decode()
    assert not StaffRole.objects.filter(user=user).exists()


def test_nobody_changes_a_user_whose_role_has_more_than_he_has(log_in):
    editor, operator = log_in("operator", permissions=("view_user", "change_user")), log_in("administrator").user
    assert give(editor, operator, "viewer").status_code == 403
    page = editor.get(at("change", User, operator.pk)).content.decode()
    assert 'name="staff_role-0-role"' not in page
    peer = log_in("operator").user
    assert give(editor, peer, "viewer").status_code == 302
    assert User.objects.get(pk=peer.pk).staff_role.role == "viewer"


@pytest.mark.parametrize(("role", "limit"), [("viewer", None), ("operator", [])])
def test_viewers_and_limited_users_manage_no_users(log_in, role, limit):
    names = [f"{verb}_{model}" for verb in ("view", "add", "change", "delete") for model in ("user", "group")]
    client = log_in(role, limit, names)
    user = User.objects.create(username="new")
    urls = [at("changelist", User), at("add", User), at("change", User, user.pk), at("history", User, user.pk)]
    assert {client.get(url).status_code for url in urls} == {403}
    assert give(client, client.user, "administrator").status_code == 403


def test_a_limited_user_creates_an_instance_that_becomes_his(log_in, mine, theirs):
    client = log_in("operator", [mine])
    form = {"name": "new", "integration": "EVOLUTION", "number": "", "business_id": "", "own_token": ""}
    assert client.post(at("add", Instance), form).status_code == 302
    user = User.objects.get(pk=client.user.pk)
    assert {instance.name for instance in visible_instances(user)} == {"mine", "new"}
    assert not sees_all_instances(user)


def test_a_limited_user_issues_keys_for_his_instances_alone(log_in, mine, theirs):
    client = log_in("operator", [mine])
    form = {"name": "key", "scopes": ["listen"], "expires_at_0": "", "expires_at_1": ""}
    for refused in ({"all_instances": "on"}, {"instances": [theirs.pk]}, {"instances": [mine.pk, theirs.pk]}):
        assert errors_of(client.post(at("add", ApiKey), form | refused))
    assert not ApiKey.objects.exists()
    form |= {"instances": [mine.pk], "all_instances": "on"}
    response = client.post(at("add", ApiKey), form)
    key = ApiKey.objects.get()
    assert (key.all_instances, [*key.instances.all()]) == (False, [mine])
    assert "evo_" in client.get(response.url).content.decode()
    assert LogEntry.objects.filter(object_id=key.pk).values_list("change_message", flat=True).first() == (
        "Showed the key."
    )
    key.instances.add(theirs)
    assert client.post(at("revoke", ApiKey, key.pk)).status_code == 404
    assert client.get(at("changelist", ApiKey)).context["cl"].result_count == 0


def test_changing_ones_own_password_is_in_the_history(log_in):
    client = log_in()
    client.user.set_password("the former one 1")
    client.user.save()
    client.force_login(client.user)
    passwords = {"old_password": "wrong", "new_password1": "the other one 2", "new_password2": "the other one 2"}
    url = reverse("admin:password_change")
    assert client.post(url, passwords).status_code == 200
    assert not LogEntry.objects.exists()
    assert client.post(url, passwords | {"old_password": "the former one 1"}).status_code == 302
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.change_message) == (
        client.user,
        str(client.user.pk),
        "Changed his own password.",
    )


def test_a_limited_user_adds_no_subscription_of_another_or_of_all_instances(log_in, mine, theirs):
    client = log_in("operator", [mine])
    form = {"transport": "websocket", "is_enabled": "on", "events": ["CALL"]}
    for instance in (theirs.pk, ""):
        assert errors_of(client.post(at("add", Subscription), form | {"instance": instance}))
    assert client.post(at("add", Subscription), form | {"instance": mine.pk}).status_code == 302
    assert [row.instance for row in Subscription.objects.all()] == [mine]


def test_a_limited_user_reads_no_token_that_opens_more_than_his_instances(log_in, mine, theirs):
    """The operator may give an instance the token of another one, or a key."""
    limited, manager = log_in("operator", [mine]), log_in("administrator")
    own = mine.token.reveal()
    key, of_key = ApiKey.objects.issue("of both", ["read"])
    key.instances.set([mine, theirs])
    _, of_all = ApiKey.objects.issue("of all", ["read"], all_instances=True)

    def reads(client):
        button = "Show token" in client.get(at("change", Instance, mine.pk)).content.decode()
        response = client.post(at("token", Instance, mine.pk))
        assert response.status_code == (200 if button else 403)
        return button

    assert reads(limited)
    for token in (theirs.token.reveal(), of_key, of_all):
        mine.rotate_token(token)
        assert not reads(limited)
        assert reads(manager)
    mine.rotate_token(own)
    key.instances.set([mine])
    assert reads(limited)
    mine.rotate_token(of_key)
    assert reads(limited)


def test_the_global_key_is_shown_to_superusers_alone(log_in, admin_client, mine, settings):
    mine.rotate_token(settings.AUTHENTICATION_API_KEY)
    assert log_in("administrator").post(at("token", Instance, mine.pk)).status_code == 403
    assert admin_client.post(at("token", Instance, mine.pk)).status_code == 200


def test_a_viewer_changes_no_endpoint_whatever_his_permissions_are(log_in, mine):
    """He reads no content, and could have the events sent to himself."""
    row = Subscription.objects.create(
        instance=mine, transport="webhook", is_enabled=False, options={"url": "http://127.0.0.1:9/in"}
    )
    permissions = ("view_subscription", "add_subscription", "change_subscription", "delete_subscription")
    form = {"is_enabled": "on", "url": "http://127.0.0.1:9/elsewhere", "events": ["CALL"], "headers": ""}
    change = at("change", Subscription, row.pk)

    viewer = log_in("viewer", permissions=permissions)
    assert 'name="url"' not in viewer.get(change).content.decode()
    assert viewer.post(change, form).status_code == 403
    viewer.post(at("changelist", Subscription), {"action": "switch_on", "_selected_action": [row.pk]})
    row.refresh_from_db()
    assert (row.options, row.is_enabled) == ({"url": "http://127.0.0.1:9/in"}, False)
    assert errors_of(viewer.post(at("add", Subscription), form | {"transport": "webhook", "instance": mine.pk}))

    # staff without a role keep what their permissions give them
    assert log_in(permissions=permissions).post(change, form).status_code == 302
    row.refresh_from_db()
    assert row.options["url"] == "http://127.0.0.1:9/elsewhere"
