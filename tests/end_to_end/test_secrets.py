"""Secrets that no key decrypts, and the rotation of ENCRYPTION_KEYS."""

from __future__ import annotations

import re

import pytest
from cryptography.fernet import Fernet

from tests.end_to_end.test_processes import run
from tests.in_process import until
from tests.receiver import Receiver

#: Makes a secret unreadable, as if it had been encrypted under a key that is lost.
ENCRYPT_UNDER_ANOTHER_KEY = """
from cryptography.fernet import Fernet
from django.apps import apps
from instances.crypto import Secret
lost = Secret(cipher=Fernet(Fernet.generate_key()).encrypt(b"{{}}").decode())
apps.get_model({model!r}).objects.filter(pk={pk!r}).update(**{{{field!r}: lost}})
"""
UNREADABLE = "It was encrypted under a key that is not in ENCRYPTION_KEYS"


def lose(server, model, pk, field):
    server.shell(ENCRYPT_UNDER_ANOTHER_KEY.format(model=model, pk=pk, field=field))


def add_endpoint(server, instance, receiver):
    body = {"url": receiver.url, "events": ["CALL"], "headers": {"X-Key": "of the receiver"}}
    response = server.post(server.path("/webhook/endpoints", instance), body)
    assert response.status == 201, response.body
    return response.json["id"]


def publish(server, instance):
    response = server.post(server.path("/event/publish", instance), {"event": "call", "data": {}})
    assert response.status == 201, response.body
    return response.json["events"][0]["id"]


def test_an_endpoint_whose_secrets_cannot_be_read_fails_alone_and_in_words(fresh_server):
    with Receiver() as receiver, Receiver() as other:
        server = fresh_server()
        instance = server.create()
        lost = add_endpoint(server, instance, receiver)
        add_endpoint(server, instance, other)
        lose(server, "instances.Subscription", int(lost), "secrets")

        event = publish(server, instance)
        until(lambda: other.requests)

        def failed():
            found = server.get(server.path("/webhook/deliveries", instance) + f"?endpoint={lost}").json
            return [row for row in found["deliveries"] if row["lastAttempt"]]

        [delivery] = until(failed)
        assert UNREADABLE in delivery["lastAttempt"]["error"]
        assert delivery["state"] == "pending"
        why = server.get(server.path("/webhook/why", instance) + f"/{event}")
        assert UNREADABLE in " ".join(why.json["summary"])
        assert not receiver.requests

        # it can be shown, and deleted; what would lose the others of its secrets is refused in words
        rows = server.get(server.path("/webhook/endpoints", instance)).json
        assert [row["headers"] for row in rows] == [None, {"X-Key": "of the receiver"}]
        path = f"{server.path('/webhook/endpoints', instance)}/{lost}"
        refused = server.request("PATCH", path, {"rotateSecret": True})
        assert refused.status == 409
        assert UNREADABLE in refused.json["response"]["message"][0]
        assert server.request("DELETE", path).status == 200
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_an_instance_whose_token_cannot_be_read_is_listed_without_it(fresh_server):
    server = fresh_server()
    lost, other = server.create(), server.create()
    lose(server, "instances.Instance", lost.id, "token")

    rows = server.get("/instance/fetchInstances")

    assert rows.status == 200
    assert {row["name"]: row["token"] for row in rows.json} == {lost.name: None, other.name: other.token}
    assert f"The token of instance {lost.name} is left out of responses. {UNREADABLE}" in server.log.read_text()
    assert server.get(server.path("/instance/connectionState", lost), key=lost.token).status == 200
    rotated = server.post(server.path("/instance/rotateToken", lost))
    assert server.get("/instance/fetchInstances", key=rotated.json["hash"]).json[0]["token"] == rotated.json["hash"]
    server.stop()
    server.start()  # a row is no reason to refuse the start


def test_a_text_is_not_sent_with_a_token_that_cannot_be_read(server):
    instance = server.create(integration="WHATSAPP-BUSINESS")
    lose(server, "instances.Instance", instance.id, "provider_token")

    refused = server.post(server.path("/message/sendText", instance), {"number": "5511988887777", "text": "hello"})

    assert refused.status == 400
    assert UNREADABLE in refused.json["response"]["message"][0]


@pytest.mark.slow
def test_encryption_keys_are_rotated_without_losing_a_secret(fresh_server):
    with Receiver() as receiver:
        server = fresh_server()
        before = server.create()
        add_endpoint(server, before, receiver)
        server.stop()
        old, new = server.environment["ENCRYPTION_KEYS"], Fernet.generate_key().decode()

        server.environment["ENCRYPTION_KEYS"] = f"{new},{old}"
        server.start()
        after = server.create()
        server.stop()

        server.environment["ENCRYPTION_KEYS"] = new
        with pytest.raises(RuntimeError, match=r"a key is missing .* Add it behind the others"):
            server.start()
        assert "a key is missing" in run(server.environment, "deliver").stderr
        refused = run(server.environment, "rotate_secrets")
        assert refused.returncode == 1
        assert "a key is missing" in refused.stderr

        server.environment["ENCRYPTION_KEYS"] = f"{new},{old}"
        server.start()
        lose(server, "instances.Instance", after.id, "provider_token")
        rotated = run(server.environment, "rotate_secrets")
        assert rotated.returncode == 0
        assert "All processes must have restarted with the new key first" in rotated.stdout
        assert re.search(
            r"2 secrets were encrypted anew. A whole pass over 4 found none under a former", rotated.stdout
        )
        assert f"  provider_token of instance {after.name} ({after.id})" in rotated.stderr
        assert "0 secrets were encrypted anew" in run(server.environment, "rotate_secrets").stdout
        server.stop()

        server.environment["ENCRYPTION_KEYS"] = new
        server.start()
        tokens = {row["token"] for row in server.get("/instance/fetchInstances").json}
        assert tokens == {before.token, after.token}
        publish(server, before)
        until(lambda: receiver.requests)
        assert receiver.requests[0].headers["X-Key"] == "of the receiver"


@pytest.mark.slow
def test_a_lost_key_is_given_up_by_name(fresh_server):
    server = fresh_server()
    instance = server.create()
    server.stop()
    server.environment["ENCRYPTION_KEYS"] = Fernet.generate_key().decode()

    forgotten = run(server.environment, "rotate_secrets", "--forget-missing-keys")

    assert "1 secrets cannot be read with any of ENCRYPTION_KEYS, and are left as they are:" in forgotten.stderr
    assert f"\n  token of instance {instance.name} ({instance.id})\n" in forgotten.stderr
    server.start()
    assert server.get("/instance/fetchInstances").json[0]["token"] is None
