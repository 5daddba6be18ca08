"""A page of the console listens with a token of the staff user's session, and no longer than that session may."""

from __future__ import annotations

import pytest

from tests.clients.staff import Staff

#: Seconds to wait for a disconnect: 2 s are documented, and the rest is for a busy machine.
SOON = 8

PRELUDE = """
from datetime import timedelta
from types import SimpleNamespace
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.exceptions import PermissionDenied
from django.utils import timezone
from instances.access.staff_session import mint_for_session
from instances.models import Instance, StaffRole
user = User.objects.get(username={name!r})
instance = Instance.objects.filter(name={instance!r}).first()
"""
MINT = """
session = SessionStore({key!r})
session.load()
try:
    request = SimpleNamespace(session=session, user=user)
    print(mint_for_session(request, instance, {scopes!r}).text)
except PermissionDenied as error:
    print("denied:", error)
"""


class Console:
    """A staff user with a session, and what another process does to him."""

    def __init__(self, server, instance, *codenames, role="", limit=None, **fields):
        self.server, self.instance = server, instance
        self.staff = Staff(server, *codenames, **fields)
        if role:
            self.run(
                f"role = StaffRole.objects.create(user=user, role={role!r}, is_limited={limit is not None})\n"
                f"role.instances.set(Instance.objects.filter(name__in={[each.name for each in limit or ()]!r}))"
            )

    def run(self, code, instance=None):
        prelude = PRELUDE.format(name=self.staff.name, instance=instance or self.instance.name)
        return self.server.shell(prelude + code).strip()

    def token(self, scopes=("listen",), namespace=None):
        return self.run(MINT.format(key=self.staff.cookies["sessionid"], scopes=list(scopes)), namespace)


@pytest.fixture(scope="module")
def instance(server):
    return server.create()


def test_a_page_listens_and_sends_until_its_user_logs_out(server, node, instance):
    console = Console(server, instance, role="operator", limit=[instance])
    token = console.token(["listen", "send"])
    assert console.staff.cookies["sessionid"] not in token
    page = node.connect(f"{server.url}/{instance.name}", auth={"token": token}).connected()
    server.receive(instance, "to the console")
    assert page.event("messages.upsert")["data"]["message"] == {"conversation": "to the console"}

    assert console.staff.post("/admin/logout/").status == 200

    assert page.wait_for("disconnect", SOON)["active"] is False
    again = node.connect(f"{server.url}/{instance.name}", auth={"token": token})
    assert again.wait_for("connect_error", SOON)["message"] == "Unauthorized"


#: Ways to lose access. Each is of a user of its own, whose role, if it has one, is operator of the instance.
OF_STAFF = [
    "user.is_active = False; user.save()",
    "user.is_staff = False; user.save()",
    "user.set_unusable_password(); user.save()",
    "user.delete()",
    "user.groups.clear()",
    "Group.objects.filter(user=user).delete()",
    "Group.objects.get(user=user).permissions.clear()",
    "StaffRole.objects.create(user=user, role='operator', is_limited=True)",
    "StaffRole.objects.create(user=user, role='viewer')",
    "Session.objects.filter(pk=session.session_key).delete()",
]
OF_ROLES = [
    "user.staff_role.instances.clear()",
    "user.staff_role.delete()",
    "user.staff_role.role = 'viewer'; user.staff_role.save()",
]
MANY = """
from types import SimpleNamespace
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.test import Client
from instances.access.staff_session import mint_for_session
from instances.models import Instance, StaffRole
instance = Instance.objects.get(name={instance!r})
for number, code in enumerate({codes!r}):
    user = User.objects.create(username=f"{{instance.name}} {{number}}", is_staff=True, password="!")
    if "user.staff_role" in code:
        StaffRole.objects.create(user=user, role="operator", is_limited=True).instances.add(instance)
    else:
        group = Group.objects.create(name=user.username)
        group.permissions.set(Permission.objects.filter(codename="view_event"))
        user.groups.add(group)
    client = Client()
    client.force_login(user)
    request = SimpleNamespace(session=client.session, user=user)
    namespaces = [instance] if "user.staff_role" in code else [instance, None]
    print(client.session.session_key, *(mint_for_session(request, each).text for each in namespaces))
"""
LOSE = """
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from instances.models import StaffRole
for number, (code, key) in enumerate({codes!r}):
    user, session = User.objects.get(username=f"{instance} {{number}}"), Session.objects.get(pk=key)
    exec(code)
"""


def test_a_socket_ends_with_session_permission_role_limit_or_account(server, node, instance):
    """`test_access_revision` has each of these alone, which wakes the check of all sockets."""
    codes = [*OF_STAFF, *OF_ROLES, "pass"]
    lines = server.shell(MANY.format(instance=instance.name, codes=codes)).strip().splitlines()
    keys = [line.split()[0] for line in lines]
    sockets = {}
    for code, line in zip(codes, lines, strict=True):
        for token, namespace in zip(line.split()[1:], (instance.name, ""), strict=False):
            sockets[code, namespace] = node.connect(f"{server.url}/{namespace}", auth={"token": token}).connected()

    server.shell(LOSE.format(instance=instance.name, codes=list(zip(codes, keys, strict=True))))

    for (code, namespace), socket in sockets.items():
        if code != "pass":
            assert socket.wait_for("disconnect", SOON)["active"] is False, (code, namespace)
    server.receive(instance, "still here")
    for namespace in (instance.name, ""):
        stays = sockets["pass", namespace]
        assert stays.event("messages.upsert")["data"]["message"] == {"conversation": "still here"}
        stays.disconnect()


def test_a_socket_of_all_instances_ends_when_its_user_is_limited_to_some(server, node, instance):
    console = Console(server, instance, role="operator")
    everything = node.connect(f"{server.url}/", auth={"token": console.token(namespace="no instance")}).connected()
    page = node.connect(f"{server.url}/{instance.name}", auth={"token": console.token()}).connected()

    console.run("user.staff_role.instances.add(instance); user.staff_role.is_limited = True; user.staff_role.save()")

    assert everything.wait_for("disconnect", SOON)["active"] is False
    server.receive(instance, "still here")
    assert page.event("messages.upsert")["data"]["message"] == {"conversation": "still here"}
    page.disconnect()


def test_a_socket_ends_when_its_session_expires(server, node, instance):
    console = Console(server, instance, is_superuser=True)
    console.run(
        f"Session.objects.filter(pk={console.staff.cookies['sessionid']!r})"
        ".update(expire_date=timezone.now() + timedelta(seconds=3))"
    )
    page = node.connect(f"{server.url}/", auth={"token": console.token(namespace="no instance")}).connected()

    assert page.wait_for("disconnect", 3 + SOON)["active"] is False


def test_a_session_mints_no_more_than_its_user_has(server, instance):
    other = server.create()
    limited = Console(server, instance, role="operator", limit=[instance])
    viewer = Console(server, instance, "view_event", "change_subscription", "add_message", role="viewer")
    none = Console(server, instance, role="operator", limit=[])

    assert "denied" not in limited.token(["listen", "read", "send"])
    assert limited.token(["publish"]) == "denied: You may not publish: docs/rights.md says what that takes"
    assert limited.token(namespace=other.name) == "denied: You do not see this instance"
    assert limited.token(namespace="no instance") == "denied: You do not see all instances"
    assert none.token() == "denied: You do not see this instance"
    assert "denied: You may not listen" in viewer.token()
    assert "denied: You may not read" in viewer.token(["read"])
    assert "denied" not in viewer.token(["send"])
    limited.staff.post("/admin/logout/")
    assert limited.token() == "denied: Log in as a staff user first"


def test_a_message_that_a_page_sends_is_in_the_history_of_its_instance(server, node, instance):
    console = Console(server, instance, role="operator", limit=[instance])
    page = node.connect(f"{server.url}/{instance.name}", auth={"token": console.token(["listen", "send"])}).connected()
    with_key = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    for socket in (page, with_key):
        assert socket.call("send_message", {"number": "5511988887777", "text": "hello"})["key"]["id"]
    code = (
        "from django.contrib.admin.models import LogEntry\n"
        f"entries = LogEntry.objects.filter(object_id={instance.id!r})\n"
        "print([*entries.values_list('user__username', 'change_message')])"
    )
    assert console.run(code) == str([(console.staff.name, "Sent a message from the console.")])
    for socket in (page, with_key):
        socket.disconnect()


def test_a_token_of_one_instance_opens_no_other_namespace(server, node, instance):
    other = server.create()
    token = Console(server, instance, is_superuser=True).token()
    for namespace in ("", other.name):
        refused = node.connect(f"{server.url}/{namespace}", auth={"token": token})
        assert refused.wait_for("connect_error", SOON)["message"] == "Invalid namespace"
