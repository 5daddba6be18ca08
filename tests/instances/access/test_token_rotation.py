"""Rotation of an instance's token: the old token opens nothing any more, and nothing else changes."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import transaction

from instances.access.access import Access
from instances.crypto import Secret
from instances.models import Instance
from tests.environment import GLOBAL_KEY
from tests.instances.providers.graph_api import Graph
from tests.server import Number, Response, Server

UNAUTHORIZED = {"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}}
NEW_TOKEN = re.compile(r"[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}")
INTEGRATIONS = ["WHATSAPP-BAILEYS", "WHATSAPP-BUSINESS", "EVOLUTION"]


# Through a running server


def rotate(server: Server, instance: Number, key: str, body: Any = None) -> Response:
    return server.post(server.path("/instance/rotateToken", instance), body, key=key)


def state(server: Server, instance: Number, key: str) -> int:
    return server.get(server.path("/instance/connectionState", instance), key=key).status


@pytest.mark.parametrize("integration", INTEGRATIONS)
def test_an_instance_gets_a_new_token_and_its_old_token_opens_nothing(server, integration):
    instance = server.create(integration=integration)

    response = rotate(server, instance, instance.token)

    new = response.json["hash"]
    assert (response.status, list(response.json)) == (200, ["hash", "instance"])
    assert NEW_TOKEN.fullmatch(new)
    rotated = response.json["instance"]
    assert (rotated["instanceName"], rotated["instanceId"]) == (instance.name, instance.id)
    assert (rotated["integration"], rotated["status"]) == (integration, "close" if "BAILEYS" in integration else "open")
    assert (state(server, instance, instance.token), state(server, instance, new)) == (401, 200)
    assert server.get("/instance/fetchInstances", key=instance.token).status == 401
    assert [row["token"] for row in server.get("/instance/fetchInstances", key=new).json] == [new]
    assert rotate(server, instance, instance.token).json == UNAUTHORIZED
    assert instance.token not in server.log.read_text() + response.body.decode()


def test_a_chosen_token_can_be_set(server):
    instance = server.create()
    chosen = f"chosen-{instance.name}"
    assert rotate(server, instance, GLOBAL_KEY, {"token": chosen}).json["hash"] == chosen
    assert (state(server, instance, chosen), state(server, instance, instance.token)) == (200, 401)
    assert NEW_TOKEN.fullmatch(rotate(server, instance, chosen, {"token": ""}).json["hash"])


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (" a", "token must not contain control characters, nor begin or end with a space"),
        ("a\nb", "token must not contain control characters, nor begin or end with a space"),
        (None, "token is not of a type(s) string"),
        (5, "token is not of a type(s) string"),
        ("x" * 4097, "token does not meet maximum length of 4096"),
    ],
)
def test_a_chosen_token_is_validated_as_at_creation(server, token, message):
    instance = server.create()
    response = rotate(server, instance, instance.token, {"token": token})
    assert (response.status, response.json["response"]["message"]) == (400, [[message]])
    assert state(server, instance, instance.token) == 200


def test_only_one_of_many_concurrent_rotations_succeeds(server):
    instance = server.create()
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: rotate(server, instance, instance.token), range(8)))
    assert sorted(response.status for response in responses) == [200] + [401] * 7
    [new] = [response.json["hash"] for response in responses if response.status == 200]
    assert state(server, instance, new) == 200


def test_rotation_keeps_the_graph_token(start_server):
    graph = Graph()
    try:
        server = start_server(WA_BUSINESS_URL=graph.url)
        instance = server.create(integration="WHATSAPP-BUSINESS")
        new = rotate(server, instance, instance.token).json["hash"]

        path, text = server.path("/message/sendText", instance), {"number": "5511988887777", "text": "x"}
        assert server.post(path, text, key=instance.token).status == 401
        assert server.post(path, text, key=new).status == 201
        assert [request.token for request in graph.requests] == [instance.token]
    finally:
        graph.stop()


def test_the_ingress_requires_the_new_token(server):
    instance = server.create()
    new = rotate(server, instance, instance.token).json["hash"]
    assert server.receive(instance).status == 401
    assert server.receive(Number(instance.name, new, instance.id, instance.number)).json == {"status": "success"}


# Stored rows


@pytest.mark.parametrize("integration", ["WHATSAPP-BAILEYS", "WHATSAPP-BUSINESS", "EVOLUTION"])
def test_rotation_keeps_the_providers_token(db, integration):
    whatsapp = Instance(name="x", integration=integration, number="1", provider_token=Secret("graph"))
    whatsapp.save()
    cipher = Instance.objects.values_list("provider_token", flat=True).get().cipher

    whatsapp.rotate_token()

    stored = Instance.objects.get()
    assert (stored.provider_token.reveal(), stored.provider_token.cipher) == ("graph", cipher)
    assert Access.from_key(stored.token.reveal()).opens(stored)


@pytest.mark.parametrize("update_fields", [None, ["name", "profile_name"]])
def test_saving_an_object_loaded_before_a_rotation_keeps_the_new_token(mine, update_fields):
    old = mine.token.reveal()
    stale = Instance.objects.get(pk=mine.pk)
    Instance.objects.get(pk=mine.pk).rotate_token("new-token")

    stale.profile_name = "Loja"
    stale.save(update_fields=update_fields)

    stored = Instance.objects.get(pk=mine.pk)
    assert stored.profile_name == "Loja"
    assert Access.from_key("new-token").opens(stored)
    assert Access.from_key(old) is None
    assert stored.token.reveal() == "new-token"


def test_saving_an_object_loaded_before_a_renaming_keeps_the_new_name(mine):
    stale = Instance.objects.get(pk=mine.pk)
    mine.name = "loja nova"
    mine.save()
    stale.save()
    assert Instance.objects.get(pk=mine.pk).name == "loja nova"


@pytest.mark.django_db(transaction=True)
def test_a_token_that_was_rolled_back_is_stored_by_the_next_save():
    instance = Instance.objects.create(name="loja")
    with transaction.atomic():
        instance.rotate_token("new-token")
        transaction.set_rollback(True)
    assert Access.from_key("new-token") is None

    instance.save()

    assert Access.from_key("new-token").opens(Instance.objects.get())
