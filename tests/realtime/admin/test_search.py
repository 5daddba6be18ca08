"""The search box of the admin, through Django's client."""

from __future__ import annotations

import itertools
import re

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from instances.models import Chat, Contact, Instance, Message
from realtime.admin import message_texts
from realtime.log.models import Event
from realtime.log.stream import Stream
from tests.instances.admin.pages import at, fill
from tests.realtime.admin.rows import SCRIPT
from tests.staff_users import staff_user


def search(client, term):
    """Return the search's response, and the paths and texts of its hits."""
    response = client.get(reverse("admin:search"), {"s": term}, headers={"HX-Request": "true"})
    assert response.status_code == 200
    found = re.findall(
        r'<li><a href="([^"]*)">.*?hit-title">([^<]*)</span>.*?hit-description">([^<]*)<', response.content.decode()
    )
    return response, {url: (title, description) for url, title, description in found}


@pytest.fixture
def mar(db):
    return Instance.objects.create(name="loja mar", number="5511988887777", connection_state="open")


@pytest.mark.parametrize("term", ["loja", "MAR", "5511988887777", "+55 (11) 98888-7777"])
def test_an_instance_is_found_by_its_name_and_number(admin_client, mar, term):
    _, found = search(admin_client, term)
    assert found == {at("change", Instance, mar.pk): ("loja mar", "Instance, open, 5511988887777")}


def test_an_event_is_found_by_its_id_its_number_and_with_its_instance(admin_client, loja, mar):
    event = Event.objects.get(instance_id=mar.pk)
    other = Event.objects.get(instance_id=loja.pk)
    epoch = Stream.objects.get(pk=mar.pk).epoch
    for term in (f"{epoch}.1", "loja mar 1", "mar 1"):
        _, found = search(admin_client, term)
        assert found == {at("change", Event, event.pk): ("loja mar 1", "Event, instance.create")}
    both = {at("change", Event, each.pk) for each in (event, other)}
    assert set(search(admin_client, "1")[1]) == both
    assert search(admin_client, "77")[1] == search(admin_client, f"{epoch}.2")[1] == {}


def test_a_message_is_found_by_its_id_and_its_text(admin_client, mar):
    fill(mar, "3EB0C767", content={"conversation": 'Bom dia,\n"Ana": are the SHOES still there?'})
    fill(mar, "photo", content={"imageMessage": {"caption": "my cat", "mediaKey": "shoesAAA="}}, type="imageMessage")
    by_id, photo = (at("change", Message, Message.objects.get(wa_id=wa_id).pk) for wa_id in ("3EB0C767", "photo"))

    assert search(admin_client, "3EB0C767")[1] == {by_id: ("3EB0C767", "Message of loja mar")}
    response, found = search(admin_client, "the shoes")
    assert found == {
        by_id: (
            "Bom dia, &quot;Ana&quot;: are the SHOES still there?",
            "Message of loja mar, 3EB0C767@s.whatsapp.net",
        )
    }
    assert re.search("Texts were searched in the newest [0-9,]+ messages.", response.content.decode())
    assert list(search(admin_client, "MY CAT")[1]) == [photo]
    assert list(search(admin_client, 'dia,\n"ana"')[1]) == [by_id]
    # neither names of members nor keys are texts, nor is a text under three characters
    for term in ("conversation", "mediaKey", "shoesAAA", "do", ""):
        assert not search(admin_client, term)[1], term


def test_a_phone_number_leads_to_its_chats_and_contacts(admin_client, loja, mar):
    for instance in (loja, mar):
        fill(instance, "5511977776666")
    _, found = search(admin_client, "+55 11 97777-6666")
    rows = [*Chat.objects.all(), *Contact.objects.all()]
    assert set(found) == {at("change", type(row), row.pk) for row in rows}
    assert set(found.values()) == {
        ("5511977776666", f"{kind} of {name}") for kind in ("Chat", "Contact") for name in ("loja centro", "loja mar")
    }
    assert set(search(admin_client, "5511977776666@s.whatsapp.net")[1]) == set(found)


@pytest.mark.bound("LIMIT_SEARCHED_MESSAGES")
@pytest.mark.parametrize("term", ["ÉPOCA", "época", "Época"])
@pytest.mark.parametrize("written", ["BELA ÉPOCA!", "bela época", "Época bela"])
def test_letters_with_accents_are_found_in_either_case(admin_client, mar, term, written):
    fill(mar, "wa-1", content={"conversation": written})
    assert [title for title, _ in search(admin_client, term)[1].values()] == [written]


def test_the_search_looks_at_the_newest_messages_and_says_so(admin_client, mar, monkeypatch):
    monkeypatch.setattr(message_texts, "SEARCHED_MESSAGES", 5)
    monkeypatch.setattr(message_texts, "PIECE", 2)
    for number in range(8):
        fill(mar, f"wa-{number}", content={"conversation": f"text number {number}"})
    response, found = search(admin_client, "text number")
    assert [title for title, _ in found.values()] == [f"text number {number}" for number in (7, 6, 5, 4, 3)]
    assert search(admin_client, "text number 2")[1] == {}
    assert "Texts were searched in the newest 5 messages." in response.content.decode()


@pytest.mark.bound("LIMIT_SEARCH_MILLISECONDS")
def test_the_search_begins_no_piece_after_its_time(admin_client, mar, monkeypatch):
    monkeypatch.setattr(message_texts, "PIECE", 2)
    for number in range(8):
        fill(mar, f"wa-{number}", content={"conversation": f"text number {number}"})
    clock = itertools.count(step=0.075)
    monkeypatch.setattr(message_texts, "monotonic", lambda: next(clock))
    response, found = search(admin_client, "text number")
    assert [title for title, _ in found.values()] == ["text number 7", "text number 6"]
    assert "Texts were searched in the newest 2 messages." in response.content.decode()


@pytest.mark.bound("LIMIT_SEARCH_HITS")
def test_a_search_needs_few_queries_and_shows_20_hits_at_most(admin_client, db):
    for number in range(12):
        instance = Instance.objects.create(name=f"shop {number}", number=f"55119888800{number:02}")
        fill(instance, "55119888800", content={"conversation": "shop 1"})
    for term in ("shop 1", "55119888800", "55119888800@s.whatsapp.net"):
        with CaptureQueriesContext(connection) as queries:
            _, found = search(admin_client, term)
        assert 10 <= len(found) <= 20
        assert len([query for query in queries if "django_session" not in query["sql"]]) <= 10


def test_a_limited_user_finds_rows_of_his_instances_alone(client, loja, mar):
    for instance in (loja, mar):
        fill(instance, "5511977776666", content={"conversation": "a secret of both"})
    client.force_login(staff_user("operator", [mar]))
    epochs = {each.name: each.epoch for each in Stream.objects.all()}
    assert list(search(client, "loja")[1].values()) == [("loja mar", "Instance, open, 5511988887777")]
    for term in ("loja 1", "1", "5511977776666", "5511977776666@s.whatsapp.net", "a secret", f"{epochs['loja mar']}.1"):
        found = search(client, term)[1]
        assert found, term
        assert not [hit for hit in found.values() if "centro" in " ".join(hit)], term
    assert search(client, f"{epochs['loja centro']}.1")[1] == {}


def test_a_viewer_finds_no_texts(client, mar):
    fill(mar, "wa-1", content={"conversation": "a secret"})
    client.force_login(staff_user("viewer"))
    response, found = search(client, "a secret")
    assert not found
    assert "secret" not in response.content.decode()
    assert list(search(client, "wa-1")[1].values()) == [("wa-1", "Message of loja mar")]


def test_staff_finds_only_what_its_permissions_show(client, mar):
    fill(mar, "loja", content={"conversation": "the loja of Ana"})
    user = staff_user()
    client.force_login(user)
    assert search(client, "loja")[1] == {}
    user.user_permissions.set(Permission.objects.filter(codename="view_instance"))
    assert list(search(client, "loja")[1]) == [at("change", Instance, mar.pk)]


def test_the_search_is_a_page_too_which_is_for_staff_alone(admin_client, client, mar):
    page = admin_client.get(reverse("admin:search"), {"s": "loja"}).content.decode()
    assert f'href="{at("change", Instance, mar.pk)}"' in page
    assert 'value="loja"' in page
    client.logout()
    assert client.get(reverse("admin:search"), {"s": "loja"}).url.startswith(reverse("admin:login"))


TERMS = [SCRIPT, "%", "_", "\\", "'", '"', "\x00", "x" * 10_000, "9" * 18, "9" * 40, "é\ud800"]


@pytest.mark.parametrize("term", TERMS)
def test_any_term_is_taken_and_escaped(admin_client, mar, term):
    fill(mar, "wa-1", content={"conversation": SCRIPT})
    response, found = search(admin_client, term.encode(errors="surrogatepass"))
    assert SCRIPT not in response.content.decode()
    assert bool(found) == (term == SCRIPT)
    assert SCRIPT not in admin_client.get(reverse("admin:search"), {"s": SCRIPT}).content.decode()
