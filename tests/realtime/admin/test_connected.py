"""The admin's page of those who are connected: to the running server, by its real sockets."""

from __future__ import annotations

import re
import secrets
import time

import pytest

from tests.clients.staff import Staff, url
from tests.environment import GLOBAL_KEY

pytestmark = pytest.mark.any_database

PAGE = url("connected", "realtime_process")
INSTANCES = url("changelist", "instances_instance")
CUT = url("cut", "realtime_process")


def cut_all(instance):
    return url("cut", "instances_instance", instance.id)


@pytest.fixture(scope="module")
def superuser(server):
    return Staff(server, is_superuser=True)


def limited_to(server, *instances):
    """Return an operator who is limited to these instances."""
    staff = Staff(server)
    ids = [instance.id for instance in instances]
    server.shell(
        "from django.contrib.auth.models import User\nfrom instances.models import StaffRole\n"
        f"user = User.objects.get(username={staff.name!r})\n"
        "role = StaffRole.objects.create(user=user, role='operator', is_limited=True)\n"
        f"role.instances.set({ids!r})"
    )
    return staff


def connect(server, node, instance, agent):
    headers = {"User-Agent": agent}
    name = f"{server.url}/{instance.name}"
    return node.connect(name, auth={"apikey": instance.token}, extraHeaders=headers).connected()


def rows(page):
    """Return the texts of the table's cells, by row."""
    body = page.body.decode()
    found = re.findall(r"<tr>\s*(<td>.*?)</tr>", body, re.DOTALL)
    return [re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", row)).strip() for row in found]


def sid_of(page, agent):
    row = next(row for row in re.findall(r"<tr>\s*<td>.*?</tr>", page.body.decode(), re.DOTALL) if agent in row)
    return re.search(r'name="sid" value="([^"]+)"', row)[1]


def test_a_socket_is_listed_with_its_figures_and_is_cut_with_a_record_of_by_whom(server, node, superuser):
    instance, agent = server.create(), f"shop/{secrets.token_hex(4)}"
    socket = connect(server, node, instance, agent)
    server.receive(instance, "hello")
    socket.event("messages.upsert")

    page = superuser.get(f"{PAGE}?instance_id={instance.id}")
    assert page.status == 200
    assert f"process {server.process.pid} on " in page.body.decode()
    [row] = rows(page)
    for part in (f"/{instance.name}", "127.0.0.1", agent, "websocket", "own token", time.strftime("%Y-%m-")):
        assert part in row
    assert int(re.search(r":\d\d (\d+) nothing Cut$", row)[1]) >= 1
    listeners = re.search(
        r'connected/\?instance_id=[^"]*">(\d+)<', superuser.get(f"{INSTANCES}?q={instance.name}").body.decode()
    )
    assert listeners[1] == "1"

    of_instance = superuser.get(url("change", "instances_instance", instance.id))
    [of_page] = [row for row in rows(of_instance) if agent in row]
    client = f"127.0.0.1 {agent}, websocket the instance&#x27;s own token {time.strftime('%Y-%m-')}"
    assert re.fullmatch(rf"{client}\d\d \d\d:\d\d \d+ nothing", of_page)

    form = {"sid": sid_of(page, agent), "instance_id": instance.id}
    assert superuser.post(CUT, form).headers["Location"] == f"{PAGE}?instance_id={instance.id}"

    assert socket.wait_for("disconnect")["reason"] == "io server disconnect"
    page = superuser.get(f"{PAGE}?instance_id={instance.id}")
    assert "Nobody is connected." in page.body.decode()
    assert f"Cut the websocket from 127.0.0.1 ({agent})" in page.body.decode()
    history = superuser.get(url("history", "instances_instance", instance.id)).body.decode()
    assert f"Cut the websocket from 127.0.0.1 ({agent}) in /{instance.name}." in history
    assert superuser.name in history


def test_a_limited_user_sees_and_cuts_only_sockets_of_his_instances(server, node):
    own, other = server.create(), server.create()
    mine = connect(server, node, own, "mine/1")
    theirs = connect(server, node, other, "theirs/1")
    overall = node.connect(f"{server.url}/", auth={"apikey": GLOBAL_KEY}).connected()
    staff = limited_to(server, own)

    page = staff.get(PAGE)
    assert [f"/{own.name}" in row for row in rows(page)] == [True]
    assert other.name not in page.body.decode()
    assert staff.get(f"{PAGE}?instance_id={other.id}").status == 404
    assert "mine/1" in staff.get(url("change", "instances_instance", own.id)).body.decode()
    all_page = Staff(server, is_superuser=True).get(f"{PAGE}?q=theirs")
    staff.post(CUT, {"sid": sid_of(all_page, "theirs/1")})
    assert staff.post(cut_all(other), {"name": other.name}).status == 404
    server.receive(other, "still there")
    assert theirs.event("messages.upsert")

    assert "This is not the name" in staff.post(cut_all(own), {"name": "another"}).body.decode()
    assert staff.post(cut_all(own), {"name": own.name}).status == 302
    assert mine.wait_for("disconnect")["reason"] == "io server disconnect"
    overall.disconnect()


def test_a_limited_user_learns_no_names_of_keys_that_open_more(server, node):
    own, other = server.create(), server.create()
    code = (
        "from instances.models import ApiKey, Instance\n"
        "def issue(name, ids):\n"
        "    key, secret = ApiKey.objects.issue(name, ['listen'], all_instances=not ids)\n"
        "    key.instances.set(ids)\n    print(secret)\n"
        f"issue('key of one', [{own.id!r}]); issue('key of two', [{own.id!r}, {other.id!r}]); issue('key of all', [])"
    )
    path = f"{server.url}/{own.name}"
    sockets = [node.connect(path, auth={"apikey": key}).connected() for key in server.shell(code).split()]

    page = limited_to(server, own).get(f"{PAGE}?instance_id={own.id}").body.decode()
    assert "the API key key of one" in page
    assert page.count("a key that opens other instances, too") == 2
    assert "key of two" not in page
    assert "key of all" not in page
    of_instance = limited_to(server, own).get(url("change", "instances_instance", own.id)).body.decode()
    assert "the API key key of one" in of_instance
    assert "key of two" not in of_instance
    assert "key of all" not in of_instance
    found = limited_to(server, own).get(f"{PAGE}?q=key+of+two")
    assert rows(found) == []
    assert "key of two" in Staff(server, is_superuser=True).get(f"{PAGE}?instance_id={own.id}").body.decode()
    for socket in sockets:
        socket.disconnect()


def test_the_page_needs_the_right_to_see_instances_and_cutting_that_to_change_them(server, node):
    instance = server.create()
    connect(server, node, instance, "seen/1")
    assert Staff(server, "view_message").get(PAGE).status == 403
    viewer = Staff(server, "view_instance")
    page = viewer.get(PAGE)
    assert "seen/1" in page.body.decode()
    assert 'name="sid"' not in page.body.decode()
    assert viewer.post(CUT, {"sid": "any"}).status == 403
    assert viewer.get(f"{PAGE}?instance_id=no-uuid").status == 404
    assert viewer.get(f"{PAGE}?q=no-such-client&behind=1&p=99999").status == 200


def test_a_process_without_sockets_says_so(admin_client):
    assert "This process serves no sockets" in admin_client.get(PAGE).content.decode()
