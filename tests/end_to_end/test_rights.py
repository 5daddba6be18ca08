"""Nobody grants, reveals or resends what he does not have himself: staff users and keys, at a running server."""

from __future__ import annotations

import json
import re

import pytest

from instances.access.rights import MANAGE, READ, RIGHTS
from tests.clients.staff import Staff, url
from tests.environment import GLOBAL_KEY, VERIFY_TOKEN
from tests.in_process import until
from tests.receiver import Receiver

KEY = re.compile(r"evo_[\w-]{43}")
SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]{32,}")
#: The codenames of all permissions by which a user has the scope `manage`, and so all others.
MANAGER = [name.partition(".")[2] for right in RIGHTS.values() for name in right.permissions]
READER = [name.partition(".")[2] for name in RIGHTS[READ].permissions]
ALL_SCOPES = list(RIGHTS)


def new_key(*scopes, **fields):
    return {"name": "made by staff", "scopes": scopes, "all_instances": "on"} | fields


def issued(staff, form):
    """Post the form of a new key; returns the key, or None if the form is refused."""
    response = staff.post(url("add", "instances_apikey"), form)
    if response.status != 302:
        return None
    return KEY.search(staff.get(response.headers["Location"]).body.decode())[0]


# Keys


def test_who_may_add_keys_and_see_instances_issues_no_key_to_them(server):
    instance = server.create()
    staff = Staff(server, "add_apikey", "view_apikey", "view_instance")

    for scopes in (ALL_SCOPES, [READ], ["listen"], [MANAGE]):
        assert issued(staff, new_key(*scopes)) is None
        assert issued(staff, new_key(*scopes, all_instances="", instances=[instance.id])) is None
    page = staff.get(url("add", "instances_apikey")).body.decode()
    assert 'name="scopes"' not in page
    assert "Only scopes that you have yourself can be given" in page
    assert "made by staff" not in staff.get(url("changelist", "instances_apikey")).body.decode()


def test_a_user_issues_keys_with_the_scopes_that_he_has_alone(server):
    instance = server.create()
    staff = Staff(server, *READER, "add_apikey")

    page = staff.get(url("add", "instances_apikey")).body.decode()
    assert re.findall('name="scopes" value="([a-z]+)"', page) == ["listen", "read"]
    assert issued(staff, new_key(READ, MANAGE)) is None
    key = issued(staff, new_key(READ))
    assert server.get(server.path("/instance/connectionState", instance), key=key).status == 200
    assert server.get("/instance/fetchInstances", key=key).json[0]["token"] is None


def test_a_user_with_all_permissions_of_the_table_issues_any_key(server):
    instance = server.create()
    key = issued(Staff(server, *MANAGER, "add_apikey"), new_key(*ALL_SCOPES))
    tokens = {row["name"]: row["token"] for row in server.get("/instance/fetchInstances", key=key).json}
    assert tokens[instance.name] == instance.token


def test_a_key_with_other_scopes_is_revoked_and_not_changed(server):
    """Neither its scopes, nor its instances, nor its time are those of a user who lacks a scope of it."""
    mine, other = server.create(), server.create()
    root = Staff(server, is_superuser=True)
    form = new_key("listen", MANAGE, READ, all_instances="", instances=[mine.id])
    key = issued(root, form)
    pk = server.shell(f"from instances.models import ApiKey; print(ApiKey.objects.get(prefix={key[:12]!r}).pk)").strip()
    staff = Staff(server, *READER, "change_apikey")
    change = url("change", "instances_apikey", pk)

    page = staff.get(change).body.decode()
    assert 'name="scopes"' not in page
    for changed in ({"instances": [mine.id, other.id]}, {"all_instances": "on"}, {"scopes": [READ]}):
        assert staff.post(change, form | changed).status == 403
    assert server.get(server.path("/instance/connectionState", other), key=key).status == 401
    assert server.get(server.path("/instance/connectionState", mine), key=key).status == 200

    assert ">Revoke</button>" in page
    assert staff.post(url("revoke", "instances_apikey", pk)).status == 302
    assert server.get(server.path("/instance/connectionState", mine), key=key).status == 401


def test_a_key_with_own_scopes_is_changed_within_them(server):
    instance = server.create()
    staff = Staff(server, *READER, "add_apikey", "change_apikey")
    key = issued(staff, new_key("listen", all_instances="", instances=[instance.id]))
    pk = server.shell(f"from instances.models import ApiKey; print(ApiKey.objects.get(prefix={key[:12]!r}).pk)").strip()
    change, path = url("change", "instances_apikey", pk), server.path("/instance/connectionState", instance)

    assert server.get(path, key=key).status == 403
    assert staff.post(change, new_key(READ, MANAGE)).status == 200  # the form, with an error
    assert server.get(path, key=key).status == 403
    assert staff.post(change, new_key(READ)).status == 302
    assert server.get(path, key=key).status == 200
    assert server.post(server.path("/instance/rotateToken", instance), {}, key=key).status == 403


# Tokens


def test_who_may_change_instances_reads_no_token(server):
    instance = server.create()
    staff = Staff(server, "view_instance", "change_instance", "add_instance")
    response = staff.post(url("token", "instances_instance", instance.id))
    assert instance.token not in response.body.decode()
    assert response.status == 403
    assert "Show token" not in staff.get(url("change", "instances_instance", instance.id)).body.decode()

    manager = Staff(server, *MANAGER)
    assert "Show token" in manager.get(url("change", "instances_instance", instance.id)).body.decode()
    assert instance.token in manager.post(url("token", "instances_instance", instance.id)).body.decode()


@pytest.mark.parametrize("integration", ["EVOLUTION", "WHATSAPP-BUSINESS"])
def test_who_may_add_instances_gets_no_key_to_them(server, integration):
    staff = Staff(server, "view_instance", "add_instance")
    number = str(server.port) + staff.name.removeprefix("staff-").translate(str.maketrans("abcdef", "123456"))
    form = {"name": staff.name, "integration": integration, "number": number, "business_id": ""}
    chosen = f"chosen-by-{staff.name}"
    response = staff.post(url("add", "instances_instance"), form | {"own_token": chosen})
    if integration == "EVOLUTION":
        assert response.status == 200  # the form, with an error
        assert "choose an instance" in response.body.decode()
        response = staff.post(url("add", "instances_instance"), form | {"own_token": ""})

    assert response.status == 302
    assert "secret" not in response.headers["Location"]
    assert server.get("/instance/fetchInstances", key=chosen).status == 401
    [row] = server.get(f"/instance/fetchInstances?instanceName={staff.name}").json
    assert row["token"] not in ("", chosen)


# Endpoints


def endpoint_of(server, instance, receiver_url, **fields):
    body = {"url": receiver_url, "headers": {"Authorization": "Bearer of-the-tenant"}} | fields
    return server.post(server.path("/webhook/endpoints", instance), body).json["id"]


def form_of(receiver_url, **fields):
    return {"is_enabled": "on", "url": receiver_url, "events": ["CALL"], "headers": ""} | fields


@pytest.mark.parametrize("change", ["host", "port", "scheme"])
def test_stored_headers_do_not_follow_a_url_that_leads_elsewhere(server, change):
    with Receiver() as theirs, Receiver() as mine:
        instance = server.create()
        pk = endpoint_of(server, instance, theirs.url, events=["CALL"])
        staff = Staff(server, "change_subscription")
        page = url("change", "instances_subscription", pk)
        if change == "host":
            elsewhere = theirs.url.replace("127.0.0.1", "127.0.0.2")
        else:
            elsewhere = mine.url if change == "port" else theirs.url.replace("http://", "https://")

        assert staff.post(page, form_of(elsewhere)).status == 302
        shown = staff.get(page).body.decode()
        # neither when it leads back
        assert staff.post(page, form_of(elsewhere if change == "port" else theirs.url)).status == 302
        assert staff.post(url("test", "instances_subscription", pk), {"event_type": "call"}).status == 302

        receiver = mine if change == "port" else theirs
        until(lambda: receiver.requests, 10)
        assert not [request for request in theirs.requests + mine.requests if "Authorization" in request.headers]
    assert server.get(server.path("/webhook/endpoints", instance)).json[0]["headers"] == {}
    assert "The stored headers are removed" in shown


def test_stored_headers_follow_a_url_to_another_path(server):
    with Receiver() as receiver:
        instance = server.create()
        pk = endpoint_of(server, instance, receiver.url, events=["CALL"])
        staff = Staff(server, "change_subscription")
        assert staff.post(url("change", "instances_subscription", pk), form_of(f"{receiver.url}/other")).status == 302
        staff.post(url("test", "instances_subscription", pk), {"event_type": "call"})

        until(lambda: receiver.requests, 10)
        [request] = receiver.requests
        assert (request.path, request.headers["Authorization"]) == ("/in/other", "Bearer of-the-tenant")


def test_what_a_url_holds_in_its_query_is_shown_to_those_who_may_manage(server):
    with Receiver(lambda request: 400) as receiver:
        instance = server.create()
        pk = endpoint_of(
            server, instance, f"{receiver.url}?token=of-the-tenant&v=second-value", events=["MESSAGES_UPSERT"]
        )
        assert server.receive(instance).status == 200
        until(lambda: receiver.requests, 10)
    [delivery] = server.get(server.path("/webhook/deliveries", instance)).json["deliveries"]
    changer = Staff(server, *READER, "change_subscription", "change_delivery")
    page = url("change", "instances_subscription", pk)
    pages = [
        page,
        url("changelist", "instances_subscription"),
        url("change", "realtime_delivery", delivery["id"]),
        url("changelist", "realtime_delivery"),
        url("delete", "instances_subscription", pk),
        url("history", "realtime_delivery", delivery["id"]),
    ]

    def shown(staff):
        return {path for path in pages if re.search("of-the-tenant|second-value", staff.get(path).body.decode())}

    assert shown(Staff(server, *READER)) == shown(changer) == set()
    assert shown(Staff(server, *MANAGER)) == {page}
    masked = f"{receiver.url.removesuffix('in')}********?token=********&v=********"
    assert masked.replace("&", "&amp;") in changer.get(page).body.decode()

    # posted as it was shown, it stays what it is; it cannot be moved without being known
    assert changer.post(page, form_of(masked)).status == 302
    stored = server.get(server.path("/webhook/endpoints", instance)).json[0]
    assert (stored["url"], stored["events"]) == (f"{receiver.url}?token=of-the-tenant&v=second-value", ["CALL"])
    assert stored["headers"] == {"Authorization": "Bearer of-the-tenant"}
    refused = changer.post(page, form_of(masked.replace("127.0.0.1", "127.0.0.2")))
    assert refused.status == 200
    assert "Replace ********" in refused.body.decode()


@pytest.mark.parametrize(
    ("model", "lookup"),
    [
        ("instances_subscription", "options__contains=of-the-tenant"),
        ("instances_subscription", "secrets__startswith=g"),
        ("instances_instance", "token__startswith=g"),
        ("instances_instance", "token_digest__gt=8"),
        ("instances_instance", "provider_token__isnull=0"),
        ("instances_instance", "settings__contains=wavoip"),
        ("instances_instance", "subscriptions__options__contains=of-the-tenant"),
        ("instances_apikey", "digest__gt=8"),
        ("instances_apikey", "instances__token__startswith=g"),
        ("instances_message", "content__contains=mediaKey"),
        ("instances_message", "instance__token__startswith=g"),
        ("realtime_delivery", "destination__contains=of-the-tenant"),
        ("realtime_delivery", "body__contains=of-the-tenant"),
        ("realtime_event", "envelope__contains=mediaKey"),
        ("auth_user", "password__startswith=p"),
    ],
)
def test_no_list_is_filtered_by_what_it_does_not_show(server, model, lookup):
    """Otherwise a query finds out a secret letter by letter."""
    instance = server.create()
    pk = endpoint_of(server, instance, "http://127.0.0.1:9/in?token=of-the-tenant", enabled=False)
    staff = Staff(server, *MANAGER, "view_apikey", "view_user")
    assert staff.get(f"{url('changelist', model)}?{lookup}").status == 400
    listed = staff.get(f"{url('changelist', 'instances_subscription')}?instance__id__exact={instance.id}")
    assert url("change", "instances_subscription", pk) in listed.body.decode()


def test_a_webhook_is_added_by_those_who_may_have_its_events(server):
    instance = server.create()
    form = {"transport": "webhook", "is_enabled": "on", "url": "http://127.0.0.1:9/in", "events": ["CALL"]}
    add = url("add", "instances_subscription")
    refused = Staff(server, "add_subscription", "view_subscription")
    assert 'value="webhook"' not in refused.get(add).body.decode()
    for whose in ({"instance": ""}, {"instance": instance.id}):
        assert refused.post(add, form | whose).status == 200  # the form, with an error
    assert server.get(server.path("/webhook/endpoints", instance)).json == []

    response = Staff(server, "add_subscription", "view_event").post(add, form | {"instance": instance.id})
    assert response.status == 302
    assert len(server.get(server.path("/webhook/endpoints", instance)).json) == 1


def test_a_signing_secret_is_rotated_by_those_who_may_manage(server):
    instance = server.create()
    pk = endpoint_of(server, instance, "http://127.0.0.1:9/in", enabled=False)
    page, rotate = url("change", "instances_subscription", pk), url("rotate", "instances_subscription", pk)
    changer, manager = Staff(server, *READER, "change_subscription"), Staff(server, *MANAGER)

    assert "Rotate secret" not in changer.get(page).body.decode()
    assert changer.post(rotate).status == 403
    assert "Rotate secret" in manager.get(page).body.decode()
    location = manager.post(rotate).headers["Location"]
    # the cookie that carries it is of no use to another user
    changer.cookies["shown_once"] = manager.cookies["shown_once"]
    assert not SECRET.search(changer.get(location).body.decode())
    shown = SECRET.search(manager.get(location).body.decode())[0]
    assert server.get(server.path("/webhook/endpoints", instance)).json[0]["secrets"][0] == shown


# Deliveries


def test_deliveries_are_sent_elsewhere_by_those_who_may_have_the_events(server):
    with Receiver(lambda request: 400) as receiver, Receiver() as elsewhere:
        instance = server.create()
        endpoint_of(server, instance, receiver.url, events=["MESSAGES_UPSERT"])
        server.receive(instance)
        path = server.path("/webhook/deliveries", instance)
        until(lambda: server.get(path).json["deliveries"][0]["state"] == "dead", 10)
        pk = server.get(path).json["deliveries"][0]["id"]
        form = {"url": elsewhere.url, "secret": "whsec_" + "B" * 43 + "="}
        resend, page = f"{url('resend', 'realtime_delivery')}?ids={pk}", url("change", "realtime_delivery", pk)

        for codenames in (
            ("change_delivery",),
            ("change_delivery", "view_delivery"),
            ("change_delivery", "view_event"),
        ):
            refused = Staff(server, *codenames)
            assert "Send to another URL" not in refused.get(page).body.decode()
            assert 'name="url"' not in refused.get(resend).body.decode()
            assert refused.post(resend, form | {"ids": pk}).status == 403
            in_range = {"instance": instance.id, "state": ["dead"]} | form
            assert refused.post(url("resend", "realtime_delivery"), in_range).status == 403
        assert Staff(server, "view_delivery", "view_event").post(resend, form | {"ids": pk}).status == 403
        # to its own endpoint, which had it already
        assert refused.post(url("again", "realtime_delivery", pk)).status == 302
        until(lambda: len(receiver.requests) == 2, 10)
        assert not elsewhere.requests

        allowed = Staff(server, "change_delivery", "view_delivery", "view_event")
        assert "Send to another URL" in allowed.get(page).body.decode()
        assert allowed.post(resend, form | {"ids": pk}).status == 302
        until(lambda: elsewhere.requests, 10)


def test_dead_deliveries_of_an_endpoint_are_sent_again_by_those_who_may_send_deliveries(server):
    with Receiver(lambda request: 400) as receiver:
        instance = server.create()
        pk = endpoint_of(server, instance, receiver.url, events=["MESSAGES_UPSERT"])
        server.receive(instance)
        path = server.path("/webhook/deliveries", instance)
        until(lambda: server.get(path).json["deliveries"][0]["state"] == "dead", 10)
        form = {"action": "send_dead_again", "_selected_action": [pk]}
        Staff(server, "change_subscription", "view_subscription").post(
            url("changelist", "instances_subscription"), form
        )
        assert server.get(path).json["deliveries"][0]["state"] == "dead"
        allowed = Staff(server, "change_delivery", "view_subscription")
        allowed.post(url("changelist", "instances_subscription"), form)
        until(lambda: len(receiver.requests) == 2, 10)


# Users and groups


def user_of(server, name):
    code = f"""
import json
from django.contrib.auth.models import User
user = User.objects.get(username={name!r})
names = sorted(user.user_permissions.values_list("codename", flat=True))
groups = sorted(user.groups.values_list("name", flat=True))
print(json.dumps([user.pk, user.is_superuser, user.is_active, names, groups]))
"""
    return json.loads(server.shell(code))


def permission(server, codename):
    code = "from django.contrib.auth.models import Permission; print(Permission.objects.get(codename={!r}).pk)"
    return server.shell(code.format(codename)).strip()


def group(server, name, *codenames):
    code = (
        "from django.contrib.auth.models import Group, Permission; group = Group.objects.create(name={!r}); "
        "group.permissions.set(Permission.objects.filter(codename__in={!r})); print(group.pk)"
    )
    return server.shell(code.format(name, codenames)).strip()


def form_of_user(name, **fields):
    dates = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00", "last_login_0": "", "last_login_1": ""}
    role = {"staff_role-TOTAL_FORMS": "0", "staff_role-INITIAL_FORMS": "0"}
    return {"username": name, "is_active": "on", "is_staff": "on", **dates, **role} | fields


def test_who_may_change_users_gives_no_permission_that_he_lacks(server):
    staff = Staff(server, "view_user", "change_user", "add_user", "view_event")
    other = Staff(server, "view_event")
    pk = user_of(server, other.name)[0]
    own, foreign = permission(server, "view_event"), permission(server, "change_instance")
    strong = group(server, f"strong {staff.name}", "view_event", "change_instance")
    weak = group(server, f"weak {staff.name}", "view_event")

    for target in (staff, other):
        page = url("change", "auth_user", user_of(server, target.name)[0])
        body = staff.get(page).body.decode()
        assert f'<option value="{foreign}"' not in body
        assert f'<option value="{strong}"' not in body
        assert 'name="is_superuser"' not in body
        before = user_of(server, target.name)
        for extra in ({"user_permissions": [own, foreign]}, {"groups": [strong]}):
            assert staff.post(page, form_of_user(target.name, **extra)).status == 200  # the form, with an error
        assert user_of(server, target.name) == before
    page = url("change", "auth_user", pk)
    form = form_of_user(other.name, is_superuser="on", user_permissions=[own], groups=[weak])
    assert staff.post(page, form).status == 302
    assert user_of(server, other.name)[1:] == [False, True, ["view_event"], [f"weak {staff.name}"]]


@pytest.mark.parametrize("is_active", [True, False])
@pytest.mark.parametrize("kind", ["superuser", "by permission", "by group"])
def test_who_may_change_users_takes_over_no_user_who_has_more(server, kind, is_active):
    """By a new password, or by a name or address that a password is reset with."""
    target = Staff(server, *(["change_instance"] if kind == "by permission" else []), is_superuser=kind == "superuser")
    pk = user_of(server, target.name)[0]
    code = f"from django.contrib.auth.models import Group, User; user = User.objects.get(pk={pk}); "
    if kind == "by group":
        group(server, f"group of {target.name}", "change_instance")
        code += f"user.groups.set(Group.objects.filter(name='group of {target.name}')); "
    server.shell(code + f"user.is_active = {is_active}; user.save()")
    staff = Staff(server, "view_user", "change_user", "add_user", "delete_user", "view_event")
    before = user_of(server, target.name)

    password = {"usable_password": "true", "password1": "a-long-new-password", "password2": "a-long-new-password"}
    assert staff.post(url("password_change", "auth_user", pk), password | {"set-password": ""}).status == 403
    assert staff.post(url("change", "auth_user", pk), form_of_user(target.name, email="x@example.com")).status == 403
    assert staff.post(url("delete", "auth_user", pk), {"post": "yes"}).status == 403
    action = {"action": "delete_selected", "_selected_action": [pk], "post": "yes"}
    assert staff.post(url("changelist", "auth_user"), action).status in (200, 403)
    assert user_of(server, target.name) == before


def test_who_may_change_groups_gives_no_permission_that_he_lacks(server):
    staff = Staff(server, "view_group", "change_group", "add_group", "view_event")
    own, foreign = permission(server, "view_event"), permission(server, "change_instance")
    strong = group(server, f"strong {staff.name}", "change_instance")

    add = url("add", "auth_group")
    assert staff.post(add, {"name": f"new {staff.name}", "permissions": [own, foreign]}).status == 200
    assert staff.post(add, {"name": f"new {staff.name}", "permissions": [own]}).status == 302
    assert staff.post(url("change", "auth_group", strong), {"name": "renamed", "permissions": [own]}).status == 403


# Keys without the scope `manage`, over REST


def test_a_key_that_reads_sees_no_credentials_and_no_names_of_staff(server):
    with Receiver() as receiver:
        instance = server.create()
        target = f"{receiver.url}?token=of-the-tenant"
        pk = endpoint_of(server, instance, target, events=["MESSAGES_UPSERT"])
        server.receive(instance)
        staff = Staff(server, *MANAGER)
        assert staff.post(url("test", "instances_subscription", pk), {"event_type": "call"}).status == 302
        until(lambda: len(receiver.requests) == 2, 10)
    reader = issued(Staff(server, is_superuser=True), new_key(READ))
    deliveries = server.get(server.path("/webhook/deliveries", instance)).json["deliveries"]
    paths = [
        server.path("/webhook/find", instance),
        server.path("/webhook/endpoints", instance),
        server.path("/webhook/endpoints", instance) + f"/{pk}",
        server.path("/webhook/deliveries", instance),
        *(server.path("/webhook/deliveries", instance) + f"/{delivery['id']}" for delivery in deliveries),
        *(server.path("/webhook/why", instance) + f"/{delivery['eventId']}" for delivery in deliveries),
        server.path("/event/find", instance),
        f"/instance/fetchInstances?instanceName={instance.name}",
    ]
    masked = {path: server.get(path, key=reader) for path in paths}
    assert {response.status for response in masked.values()} == {200}
    for response in masked.values():
        assert "of-the-tenant" not in response.body.decode()
        assert staff.name not in response.body.decode()
    assert masked[paths[0]].json["url"] == f"{receiver.url.removesuffix('in')}********?token=********"
    assert {row["askedBy"] for row in masked[paths[3]].json["deliveries"]} == {None, "********"}
    whole = [path for path in paths if "of-the-tenant" in server.get(path, key=instance.token).body.decode()]
    assert len(whole) == 3 + 1 + 2 + 2
    assert {row["askedBy"] for row in deliveries} == {None, f"{staff.name} in the admin"}


def test_a_key_reads_no_token_that_opens_more_than_it_does(server):
    """The operator may give an instance any token; a key that manages it gets no other one, and no key, by it."""
    root = Staff(server, is_superuser=True)
    shared, stronger = f"token-of-two-{root.name}", issued(root, new_key(*ALL_SCOPES))
    mine, theirs = server.create(token=shared), server.create(token=shared)
    own, keyed, everything = server.create(), server.create(token=stronger), server.create(token=GLOBAL_KEY)
    ids = [instance.id for instance in (mine, own, keyed, everything)]

    def tokens(key):
        return {row["id"]: row["token"] for row in server.get("/instance/fetchInstances", key=key).json}

    of_mine = tokens(issued(root, new_key(READ, MANAGE, all_instances="", instances=ids)))
    assert of_mine == {mine.id: None, own.id: own.token, keyed.id: None, everything.id: None}
    of_all = tokens(issued(root, new_key(READ, MANAGE)))
    shown = {mine.id: shared, theirs.id: shared, own.id: own.token, keyed.id: None, everything.id: None}
    assert {pk: of_all[pk] for pk in shown} == shown
    assert tokens(shared) == {mine.id: shared, theirs.id: shared}
    assert tokens(GLOBAL_KEY)[everything.id] == GLOBAL_KEY
    show = url("token", "instances_instance", everything.id)
    assert Staff(server, *MANAGER).post(show).status == 403
    assert GLOBAL_KEY in root.post(show).body.decode()


def test_the_verify_token_of_metas_webhook_is_shown_to_the_operator_alone(server):
    instance = server.create(integration="WHATSAPP-BUSINESS")
    path = server.path("/instance/rotateToken", instance)
    rotated = server.post(path, {}, key=instance.token)
    assert rotated.json["instance"]["accessTokenWaBusiness"] == "********"
    assert VERIFY_TOKEN not in rotated.body.decode()
    assert server.post(path, {}, key=GLOBAL_KEY).json["instance"]["accessTokenWaBusiness"] == VERIFY_TOKEN


def test_the_token_of_a_settings_provider_is_masked_for_a_key_that_reads(server):
    instance = server.create(wavoipToken="token-of-wavoip")
    reader = issued(Staff(server, is_superuser=True), new_key(READ))
    path = f"/instance/fetchInstances?instanceName={instance.name}"
    assert server.get(path, key=reader).json[0]["Setting"]["wavoipToken"] == "********"
    assert server.get(path, key=instance.token).json[0]["Setting"]["wavoipToken"] == "token-of-wavoip"
