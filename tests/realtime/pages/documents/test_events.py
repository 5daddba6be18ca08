"""The events reference and the JSON Schemas: every type has a page, a schema, and an example that the schema takes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re

import jsonschema_rs
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from instances.events import EventType
from instances.models import Instance
from realtime.envelope import EventNumber, render
from realtime.log.models import Event
from realtime.pages.documents import examples, payloads
from realtime.pages.documents.event_schemas import schemas
from realtime.pages.documents.events import TYPES, event_path
from realtime.pages.documents.rest import operation_path
from tests.server import ROOT

pytestmark = pytest.mark.any_database


def schema_of(client, name: str):
    return client.get(f"/docs/schemas/{name}.json")


@pytest.mark.parametrize("event_type", TYPES)
def test_every_event_has_a_page_with_its_schema_and_an_example(client, event_type):
    page = client.get(event_path(event_type)).content.decode()
    assert f"/docs/schemas/{event_type.value}.json" in page
    assert examples.ID in page
    schema = schema_of(client, event_type.value).json()
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    for example in (
        examples.envelope(event_type),
        json.loads(examples.webhook_body(event_type)),
        json.loads(examples.rabbitmq_body(event_type)),
    ):
        assert [error.message for error in validator.iter_errors(example)] == []


def test_what_comes_of_the_payloads_in_the_pages_is_as_the_schemas_say(client):
    for event_type, made in payloads.examples().items():
        validator = jsonschema_rs.validator_for(event_type.schema, validate_formats=True)
        page = client.get(event_path(event_type)).content.decode()
        for payload, data in made:
            assert [error.message for error in validator.iter_errors(data)] == [], payload.title
            assert f"<summary>{payload.title}</summary>" in page


@pytest.mark.django_db(transaction=True)
def test_a_payload_in_a_page_makes_the_event_that_the_page_shows(client, settings):
    instance = Instance.objects.create(name="loja", integration="EVOLUTION", number=payloads.PHONE)
    [(payload, shown)] = [
        (each, data)
        for each, data in payloads.examples()[EventType.MESSAGES_UPSERT]
        if each.route == "POST /webhook/evolution"
    ]
    key = settings.AUTHENTICATION_API_KEY
    response = client.post("/webhook/evolution", payload.body, content_type="application/json", headers={"apikey": key})
    assert response.status_code == 200
    stored = Event.objects.get(instance_id=instance.pk, type="messages.upsert")
    own = {"instanceId": str(instance.pk)}
    real = json.loads(bytes(stored.envelope))["data"]
    assert real | {"messageTimestamp": shown["messageTimestamp"]} == shown | own


@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_one_of_draft_2020_12_and_of_draft_7(client, name):
    response = schema_of(client, name)
    assert response.headers["Content-Type"] == "application/schema+json"
    schema = response.json()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)
    Draft7Validator.check_schema({key: value for key, value in schema.items() if key != "$schema"})


def test_a_schema_refuses_what_is_no_event_of_its_type(client):
    validator = jsonschema_rs.validator_for(schema_of(client, "connection.update").json())
    event = examples.envelope(EventType.CONNECTION_UPDATE)
    assert validator.is_valid(event)
    assert not validator.is_valid(event | {"event": "call"})
    assert not validator.is_valid(event | {"data": event["data"] | {"state": "ajar"}})
    assert not validator.is_valid(event | {"apikey": "a key"})
    assert not validator.is_valid({name: value for name, value in event.items() if name != "id"})


def test_an_unknown_event_has_no_page_and_no_schema(client):
    for name in ("messages.invented", "MESSAGES_UPSERT", "creds.update"):
        assert client.get(f"/docs/events/{name}").status_code == 404
        assert schema_of(client, name).status_code == 404


@pytest.mark.django_db
def test_the_example_has_the_members_of_a_real_event_in_their_order(settings):
    settings.SERVER_URL = "https://evo.example.com"
    real = render(Instance(name="loja"), EventType.CALL, {}, EventNumber("e", 1, 0))
    assert list(json.loads(real)) == list(examples.envelope(EventType.CALL))


@pytest.mark.parametrize("event_type", [EventType.MESSAGES_UPSERT, EventType.CHATS_DELETE])
def test_the_signature_of_the_webhook_in_the_page_is_right(client, event_type):
    page = client.get(event_path(event_type)).content.decode()
    headers = examples.webhook_headers(event_type)
    assert headers["webhook-signature"].replace("+", "&#x2B;") in page or headers["webhook-signature"] in page
    key = base64.b64decode(examples.SECRET.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + examples.webhook_body(event_type)
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{signature}"


# The emitters


#: Places in the code that name a type without announcing it.
NAMED_ONLY = {
    ("PRESENCE_UPDATE", "realtime/log/coalescing.py"),
    ("QRCODE_UPDATED", "realtime/log/coalescing.py"),
}


def test_the_types_with_an_emitter_of_ours_are_those_that_the_code_announces():
    announced = set()
    for path in [*(ROOT / "instances").rglob("*.py"), *(ROOT / "realtime").rglob("*.py")]:
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(("instances/events/", "realtime/pages/", "realtime/admin/")):
            continue
        names = set(re.findall(r"EventType\.([A-Z_]+)", path.read_text())) & set(EventType.names)
        announced |= {name for name in names if (name, place) not in NAMED_ONLY}
    ours = {each.name for each in EventType if any(emitter.name != PUBLISHED for emitter in each.emitters)}
    assert announced == ours


PUBLISHED = "an engine of your own, which publishes it"


def test_every_route_of_an_emitter_is_in_the_rest_reference():
    for event_type in EventType:
        for emitter in event_type.emitters:
            for route in emitter.routes:
                assert operation_path(route).startswith("/docs/rest/")


def test_engines_publish_all_types_that_are_publishable():
    for event_type in EventType:
        assert event_type.is_publishable == any(emitter.name == PUBLISHED for emitter in event_type.emitters)
