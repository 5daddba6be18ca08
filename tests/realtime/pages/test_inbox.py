"""The pages of inboxes: whose they are, and what they do."""

from __future__ import annotations

import time

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User

from instances.models import Instance, StaffRole, Subscription
from instances.outbound.inbox_urls import InboxUrl
from instances.outbound.webhook_secrets import new_secret
from realtime.delivery.models import Delivery
from realtime.inbox.models import Inbox, InboxRequest
from realtime.inbox.storage import Post, receive
from tests.clients.staff import Staff
from tests.realtime.inbox.inboxes import Mine
from tests.realtime.inbox.test_signature import signed
from tests.staff_users import staff_user


@pytest.fixture
def inbox(server):
    return Mine(Staff(server, is_superuser=True))


def test_an_inbox_is_its_makers_alone(server, inbox):
    inbox.post(b"{}")
    [row] = inbox.rows()
    other = Staff(server, is_superuser=True)
    pages = [inbox.page, f"{inbox.page}requests/", f"{inbox.page}requests/{row['id']}/"]
    for page in pages:
        assert inbox.staff.get(page).status == 200
        response = other.get(page)
        assert (response.status, "No such inbox" in response.body.decode()) == (404, True)
    for page in ("delete/", "secret/", "send-here/"):
        assert other.post(inbox.page + page, {"secret": new_secret(), "instance": "x"}).status == 404
    assert Mine(other).staff.get(f"{Mine(other).page}requests/{row['id']}/").status == 404
    assert inbox.path not in other.get("/console/inbox/").body.decode()
    assert inbox.rows() == [row]


def test_without_a_session_there_is_a_log_in_and_no_inbox(server, inbox):
    for path in ("/console/inbox/", inbox.page, f"{inbox.page}requests/"):
        response = server.get(path, key=None)
        assert "Log in" in response.body.decode()
        assert inbox.path not in response.body.decode()


def test_what_is_posted_is_json_for_the_page_and_never_a_document(inbox):
    inbox.post(b"<script>alert(1)</script>", Content_Type="text/html")
    [row] = inbox.rows()
    for path in (f"{inbox.page}requests/", f"{inbox.page}requests/{row['id']}/"):
        response = inbox.staff.get(path)
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert response.headers["Cache-Control"] == "no-store"
    assert inbox.staff.get(f"{inbox.page}requests/?after=x").json["requests"] == [row]
    assert inbox.staff.get(f"{inbox.page}requests/{2**70}/").status == 404
    assert inbox.staff.get(f"/console/inbox/{2**70}/").status == 404


def test_a_secret_checks_what_has_come_and_what_comes(inbox):
    secret, body = new_secret(), b'{"hello": "world"}'
    headers = {name.replace("-", "_"): value for name, value in signed(secret, int(time.time())).items()}
    inbox.post(body, **headers)
    inbox.post(body)
    assert [row["verdict"] for row in inbox.rows()] == ["unchecked", "unsigned"]
    inbox.staff.post(f"{inbox.page}secret/", {"secret": secret})
    inbox.post(body + b" ", **headers)
    assert [row["verdict"] for row in inbox.rows()] == ["valid", "unsigned", "invalid"]
    page = inbox.staff.get(inbox.page).body.decode()
    assert "Signatures are checked by this secret." in page
    assert secret not in page
    inbox.staff.post(f"{inbox.page}secret/", {"secret": "whsec_short"})
    assert "A signing secret is whsec_ and base64." in inbox.staff.get(inbox.page).body.decode()
    assert inbox.rows()[0]["verdict"] == "valid"
    inbox.staff.post(f"{inbox.page}secret/", {"secret": ""})
    assert [row["verdict"] for row in inbox.rows()] == ["unchecked", "unsigned", "unchecked"]


def test_the_events_of_an_instance_are_sent_here_by_one_click_and_a_test_comes_at_once(server, inbox):
    instance = server.create()
    for _ in range(2):
        assert inbox.staff.post(f"{inbox.page}send-here/", {"instance": instance.name}).status == 302
    rows = inbox.wait(2)
    [endpoint] = server.get(f"/webhook/endpoints/{instance.name}").json
    assert {row["verdict"] for row in rows} == {"valid"}
    assert {row["endpoint"]["id"] for row in rows} == {int(endpoint["id"])}
    history = inbox.staff.get(f"/admin/instances/subscription/{endpoint['id']}/history/").body.decode()
    assert "Added for an inbox." in history
    assert "Sent a test event to an inbox." in history


def test_an_endpoint_that_was_there_before_is_said_to_send_no_more_than_it_does(client, db):
    user = User.objects.create(username="maker", is_staff=True, is_superuser=True)
    client.force_login(user)
    inbox = Inbox.create_for(user)
    Instance.objects.create(name="mine")
    page = f"/console/inbox/{inbox.pk}/"

    def said() -> str:
        client.post(f"{page}send-here/", {"instance": "mine"})
        return client.get(page).content.decode()

    assert "The events of mine are sent here by" in said()
    Subscription.objects.update(events=["MESSAGES_UPSERT"])
    filtered = said()
    assert "Of the events of mine those that" in filtered
    assert "The events of mine are sent here" not in filtered
    Subscription.objects.update(is_enabled=False)
    off = said()
    assert "Nothing of mine is sent here" in off
    assert "are sent here" not in off
    assert Delivery.objects.count() == 2, "test events of the endpoint while it was on"


@pytest.mark.bound("LIMIT_ENDPOINTS")
def test_an_instance_with_all_of_its_endpoints_sends_to_no_further_inbox(client, db, monkeypatch):
    monkeypatch.setattr("instances.api.webhook.ENDPOINTS", 1)
    user = User.objects.create(username="maker", is_staff=True, is_superuser=True)
    client.force_login(user)
    Instance.objects.create(name="mine")
    pages = [f"/console/inbox/{Inbox.create_for(user).pk}/" for _ in range(2)]
    for page in (pages[0], pages[0], pages[1]):
        client.post(f"{page}send-here/", {"instance": "mine"})
    assert "An instance may have 1 webhook endpoints." in client.get(pages[1]).content.decode()
    assert Subscription.objects.count() == 1


def test_no_test_is_promised_to_who_may_not_send_one(server):
    inbox = Mine(Staff(server, "view_instance", "view_event", "add_subscription"))
    page = inbox.staff.get(inbox.page).body.decode()
    assert "Adds an endpoint for all of its events." in page
    assert "test event" not in page


def test_who_may_not_add_endpoints_cannot_send_events_here(server):
    instance = server.create()
    inbox = Mine(Staff(server, "view_instance", "view_event"))
    assert "you need to have the events yourself" in inbox.staff.get(inbox.page).body.decode()
    inbox.staff.post(f"{inbox.page}send-here/", {"instance": instance.name})
    assert "You may not add endpoints." in inbox.staff.get(inbox.page).body.decode()
    assert server.get(f"/webhook/endpoints/{instance.name}").json == []


def test_an_unknown_instance_is_named_as_text(inbox):
    for name in ("<b>nobody</b>", "a\x00b"):
        inbox.staff.post(f"{inbox.page}send-here/", {"instance": name})
        page = inbox.staff.get(inbox.page).body.decode()
        assert "There is no instance" in page
        assert "<b>nobody</b>" not in page


def test_a_viewer_has_no_inbox_as_it_would_show_what_messages_say(client, db):
    user = staff_user("operator")
    client.force_login(user)
    inbox = Inbox.create_for(user)
    assert client.get(f"/console/inbox/{inbox.pk}/").status_code == 200
    user.staff_role.role = StaffRole.Role.VIEWER
    user.staff_role.save()
    for path in ("", f"{inbox.pk}/", f"{inbox.pk}/requests/"):
        response = client.get(f"/console/inbox/{path}")
        assert response.status_code == 403
        assert "but not what they say" in response.content.decode()
    assert client.post("/console/inbox/new/").status_code == 403
    assert Inbox.objects.count() == 1


def test_a_limited_operator_sends_the_events_of_his_instances_alone(client, db):
    mine, other = Instance.objects.create(name="mine"), Instance.objects.create(name="other")
    user = staff_user("operator", [mine])
    client.force_login(user)
    inbox = Inbox.create_for(user)
    page = f"/console/inbox/{inbox.pk}/"
    assert 'value="mine"' in client.get(page).content.decode()
    assert 'value="other"' not in client.get(page).content.decode()
    for instance in (mine, other):
        client.post(f"{page}send-here/", {"instance": instance.name})
    assert [each.instance for each in Subscription.objects.endpoints()] == [mine]


def test_what_was_encrypted_under_a_lost_key_is_named_and_the_rest_works(client, db, settings):
    user = User.objects.create(username="maker", is_staff=True, is_superuser=True)
    client.force_login(user)
    inbox = Inbox.create_for(user)
    url = InboxUrl(inbox.url_id.reveal(), "")
    inbox.use_secret(new_secret())
    post = Post(url, list(signed().items()), b"{}")
    assert receive(post).status == 200
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert receive(post).status == 200
    page = f"/console/inbox/{inbox.pk}/"
    for path in ("/console/inbox/", page):
        assert "The URL cannot be read. It was encrypted under a key" in client.get(path).content.decode()
    first, second = client.get(f"{page}requests/").json()["requests"]
    assert (first["title"], second["title"]) == ("without a type", "without a type")
    assert "The secret of this inbox cannot be read" in second["reason"]
    detail = client.get(f"{page}requests/{first['id']}/").json()
    assert (detail["body"], detail["headers"]) == ("{}", [])
    assert "The headers cannot be read. It was encrypted under a key" in detail["note"]
    InboxRequest.objects.update(has_more_headers=True)
    note = client.get(f"{page}requests/{first['id']}/").json()["note"]
    assert note == f"{detail['note']} More headers came, which were too long to be kept."
    client.post(f"{page}send-here/", {"instance": Instance.objects.create(name="mine").name})
    assert "It was encrypted under a key" in client.get(page).content.decode()
    assert not Subscription.objects.exists()
