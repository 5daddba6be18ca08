"""`send_message` over a socket: it is acknowledged with the response of POST /message/sendText."""

from __future__ import annotations

import json
import secrets

import pytest

from tests.clients.polling import Polling
from tests.environment import GLOBAL_KEY

pytestmark = pytest.mark.any_database

ISSUE = """
import json
from instances.models import ApiKey, Instance

def issue(scopes, **fields):
    key, secret = ApiKey.objects.issue("a test", scopes, **fields)
    key.instances.set(Instance.objects.filter(name={name!r}))
    return secret

print(json.dumps({{
    "listen": issue(["listen"]),
    "listen and send": issue(["listen", "send"]),
    "listen and send, all": issue(["listen", "send"], all_instances=True),
    "to be revoked": issue(["listen", "send"]),
    "to lose a scope": issue(["listen", "send"]),
    "to lose its instance": issue(["listen", "send"]),
    "to expire": issue(["listen", "send"]),
}}))
"""

REVOKE = """
from django.utils import timezone
from instances.crypto import digest
from instances.models import ApiKey, Instance

def key(secret):
    return ApiKey.objects.get(digest=digest(secret))

key({to_be_revoked!r}).revoke()
ApiKey.objects.filter(pk=key({to_lose_a_scope!r}).pk).update(scopes=["listen"])
key({to_lose_its_instance!r}).instances.clear()
ApiKey.objects.filter(pk=key({to_expire!r}).pk).update(expires_at=timezone.now())
"""

UNAUTHORIZED = {"status": 401, "error": "Unauthorized", "response": {"message": "Unauthorized"}}


def refused(status, *message):
    errors = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}
    return {"status": status, "error": errors[status], "response": {"message": list(message)}}


def invalid(*messages):
    return refused(400, list(messages))


def sent(client, upto):
    """Wait for the event of this message, which may precede its acknowledgement; return the data of all such events."""

    def received():
        events = [line["args"][0] for line in client.seen if line["is"] == "event" and line["event"] == "send.message"]
        return [event["data"] for event in events]

    while upto not in received():
        client.event("send.message")
    return received()


@pytest.fixture(scope="module")
def instance(server):
    return server.create()


@pytest.fixture(scope="module")
def keys(server, instance):
    return json.loads(server.shell(ISSUE.format(name=instance.name)))


@pytest.fixture(scope="module")
def client(server, node, instance):
    return node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()


@pytest.fixture(scope="module")
def root(server, node):
    return node.connect(server.url, auth={"apikey": GLOBAL_KEY}).connected()


def test_a_message_is_acknowledged_with_the_rest_response_and_emitted_to_every_client(
    server, node, client, root, instance
):
    other = node.connect(
        f"{server.url}/{instance.name}", query={"apikey": GLOBAL_KEY}, transports=["polling"]
    ).connected()

    ack = client.call("send_message", {"number": "5511988887777", "text": "Olá 👋"})

    for receiver in (client, other, root):
        assert sent(receiver, upto=ack).count(ack) == 1
    rest = server.post(
        server.path("/message/sendText", instance), {"number": "5511988887777", "text": "Olá 👋"}, key=instance.token
    )
    assert rest.status == 201
    assert list(ack) == list(rest.json)
    assert ack["key"] == {"remoteJid": "5511988887777", "fromMe": True, "id": ack["key"]["id"]}
    assert ack["message"] == {"conversation": "Olá 👋"}
    assert ack["key"]["id"] != rest.json["key"]["id"]
    assert sent(client, upto=rest.json)
    other.disconnect()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_the_messages_of_one_client_are_sent_in_its_order(server, node, instance, transport):
    client = node.connect(
        f"{server.url}/{instance.name}", auth={"apikey": instance.token}, transports=[transport]
    ).connected()

    for number in range(30):
        client.emit("send_message", {"text": f"{number}"})
    ack = client.call("send_message", {"text": "x" * 60_000})

    assert ack["message"] == {"conversation": "x" * 60_000}
    messages = sent(client, upto=ack)
    assert [data["message"]["conversation"][:2] for data in messages] == [*map(str, range(30)), "xx"]
    client.disconnect()


def test_message_is_an_alias_of_text_and_text_has_precedence(client):
    assert client.call("send_message", {"message": "one name"})["message"] == {"conversation": "one name"}
    assert client.call("send_message", {"message": "no", "text": "yes"})["message"] == {"conversation": "yes"}


def test_a_message_without_a_number_is_sent_to_the_instances_own_phone(server, node, client, root, instance):
    assert client.call("send_message", {"text": "to myself"})["key"]["remoteJid"] == instance.number
    ack = root.call("send_message", {"text": "to myself", "instance": instance.name})
    assert ack["key"]["remoteJid"] == instance.number

    phoneless = server.create(number=None)
    other = node.connect(f"{server.url}/{phoneless.name}", auth={"apikey": phoneless.token}).connected()
    assert other.call("send_message", {"text": "to no number"}) == invalid('instance requires property "number"')
    assert other.call("send_message", {"text": "to a number", "number": "5511988887777"})["key"]["fromMe"]
    other.disconnect()


def test_the_options_of_the_rest_route_are_accepted(client):
    quoted = {"key": {"id": "a-message"}, "message": {"conversation": "before"}}
    ack = client.call("send_message", {"text": "after", "quoted": quoted, "linkPreview": True, "delay": 10, "x": 1})

    assert ack["message"] == {"conversation": "after", "quoted": quoted}


def test_a_message_on_the_root_namespace_names_its_instance(server, root, client, instance):
    ack = root.call("send_message", {"instance": instance.name, "number": "5511988887777", "text": "from /"})

    assert (ack["instanceId"], ack["message"]) == (instance.id, {"conversation": "from /"})
    assert sent(client, upto=ack)


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("no such instance", refused(404, 'The "no such instance" instance does not exist')),
        ("", refused(404, 'The "" instance does not exist')),
        ("a\x00b", refused(404, 'The "a\x00b" instance does not exist')),
        ("half an emoji \ud83d", refused(404, 'The "half an emoji ?" instance does not exist')),
        *((name, refused(400, 'instance requires property "instance"')) for name in (None, 5, ["x"], {"x": 1}, True)),
    ],
    ids=ascii,
)
def test_an_invalid_instance_is_refused_on_the_root_namespace(root, name, refusal):
    assert root.call("send_message", {"instance": name, "number": "5511988887777", "text": "x"}) == refusal


def test_a_message_without_an_instance_is_refused_on_the_root_namespace(root):
    ack = root.call("send_message", {"number": "5511988887777", "text": "x"})

    assert ack == refused(400, 'instance requires property "instance"')


def test_a_namespace_ignores_the_instance_in_the_body(server, client, instance):
    other = server.create()

    ack = client.call("send_message", {"instance": other.name, "text": "x"})

    assert ack["instanceId"] == instance.id


# Permission to send


def test_a_key_with_the_scope_listen_alone_may_not_send(server, node, keys, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": keys["listen"]}).connected()

    assert client.call("send_message", {"text": "x"}) == refused(403, "This key may not send")
    client.disconnect()


def test_every_key_of_a_connection_needs_the_scope_send(server, node, keys, instance):
    options = {"auth": {"apikey": instance.token}, "query": {"apikey": keys["listen"]}}
    client = node.connect(f"{server.url}/{instance.name}", **options).connected()

    assert client.call("send_message", {"text": "x"}) == refused(403, "This key may not send")
    client.disconnect()


def test_a_key_with_the_scope_send_may_send(server, node, keys, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": keys["listen and send"]}).connected()
    assert client.call("send_message", {"text": "x"})["key"]["fromMe"]
    client.disconnect()

    root = node.connect(server.url, auth={"apikey": keys["listen and send, all"]}).connected()
    assert root.call("send_message", {"text": "x", "instance": instance.name})["key"]["fromMe"]
    root.disconnect()


def test_a_key_is_read_again_for_every_message(server, node, keys, instance):
    revoked = {name: keys[name] for name in ("to be revoked", "to lose a scope", "to lose its instance", "to expire")}
    clients = {}
    for name, key in revoked.items():
        clients[name] = node.connect(f"{server.url}/{instance.name}", auth={"apikey": key}).connected()
        assert clients[name].call("send_message", {"text": "while it is valid"})["key"]["fromMe"]

    server.shell(REVOKE.format(**{name.replace(" ", "_"): key for name, key in revoked.items()}))

    refusals = {"to lose a scope": refused(403, "This key may not send")}
    for name, client in clients.items():
        ack = outcome(client, {"text": "afterwards"})
        assert ack in (refusals.get(name, UNAUTHORIZED), "disconnect"), name
        client.disconnect()


def outcome(client, body):
    """Send a message and return its acknowledgement, or `disconnect` if the server has disconnected the client."""
    client.node.send("emit", name=client.name, event="send_message", args=[body], ack="outcome")
    while True:
        line = client.lines.get(timeout=10)
        if line["is"] == "disconnect":
            return "disconnect"
        if line["is"] == "ack":
            return line["args"][0]


# Repeats


def test_a_repeated_id_is_acknowledged_with_the_first_result_and_sent_once(server, client, root, instance):
    id = secrets.token_hex(8)
    first = client.call("send_message", {"text": "once", "id": id})

    again = client.call("send_message", {"text": "again, with another text", "id": id})
    from_root = root.call("send_message", {"text": "once", "id": id, "instance": instance.name})
    rest = server.post(server.path("/message/sendText", instance), {"number": "55", "text": "once", "id": id})
    another = client.call("send_message", {"text": "another", "id": f"{id}x"})

    assert first == again == from_root == rest.json
    assert another["key"]["id"] != first["key"]["id"]
    assert sent(client, upto=another).count(first) == 1


def test_two_instances_may_use_the_same_id(server, root, instance):
    other, id = server.create(), secrets.token_hex(8)

    acks = [
        root.call("send_message", {"instance": name, "text": "x", "id": id}) for name in (instance.name, other.name)
    ]

    assert [ack["instanceId"] for ack in acks] == [instance.id, other.id]


# Invalid messages

BAD_BODIES = {
    "a text": (["hello"], refused(400, "send_message takes an object with a text and a number")),
    "a list": ([["hello"]], refused(400, "send_message takes an object with a text and a number")),
    "null": ([None], refused(400, "send_message takes an object with a text and a number")),
    "a number": ([5], refused(400, "send_message takes an object with a text and a number")),
    "nothing": ([], refused(400, "send_message takes an object with a text and a number")),
    "an empty object": ([{}], invalid('instance requires property "text"')),
    "a text that is a number": ([{"text": 5}], invalid("text is not of a type(s) string")),
    "a text that is an object": ([{"text": {"body": "x"}}], invalid("text is not of a type(s) string")),
    "a message that is a number": ([{"message": 5}], invalid("text is not of a type(s) string")),
    "an empty text": ([{"text": ""}], invalid("Text is required")),
    "a blank text": ([{"text": " \n\t "}], invalid("Text is required")),
    "a text with NUL": ([{"text": "a\x00b"}], invalid("text must not contain NUL characters")),
    "a number that is a JSON number": ([{"text": "x", "number": 5511988887777}], invalid("number Invalid format")),
    "a number that is a list": ([{"text": "x", "number": ["55"]}], invalid("number Invalid format")),
    "an id that is a number": ([{"text": "x", "id": 5}], invalid("id is not of a type(s) string")),
    "quoted that is a text": ([{"text": "x", "quoted": "y"}], invalid("quoted is not of a type(s) object")),
    "quoted without a key": ([{"text": "x", "quoted": {}}], invalid('quoted requires property "key"')),
    "quoted without an id": ([{"text": "x", "quoted": {"key": {}}}], invalid('quoted.key requires property "id"')),
    "several faults": ([{"text": 5, "number": 5}], invalid("number Invalid format", "text is not of a type(s) string")),
}


@pytest.mark.parametrize("arguments", [arguments for arguments, _ in BAD_BODIES.values()], ids=BAD_BODIES)
def test_an_invalid_message_is_acknowledged_with_the_error(client, arguments, request):
    refusal = BAD_BODIES[request.node.callspec.id][1]

    assert client.call("send_message", *arguments) == refusal


@pytest.mark.parametrize("arguments", [arguments for arguments, _ in BAD_BODIES.values()], ids=BAD_BODIES)
def test_without_a_callback_the_error_is_an_error_event_for_that_client_alone(
    server, node, client, instance, arguments, request
):
    other = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    client.emit("send_message", *arguments)

    assert client.event("error") == BAD_BODIES[request.node.callspec.id][1]
    sent = other.call("send_message", {"text": "next"})
    assert other.event("send.message")["data"] == sent
    assert [line["event"] for line in other.seen if line["is"] == "event"] == ["send.message"]
    other.disconnect()


def test_without_a_callback_there_is_no_acknowledgement(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

    client.emit("send_message", {"text": "quietly"})
    client.event("send.message")
    client.call("send_message", {"text": "aloud"})

    assert [line["is"] for line in client.seen if line["is"] not in ("connect", "upgrade", "event")] == ["ack"]
    client.disconnect()


@pytest.mark.parametrize(
    "content",
    [
        '{"text":{"_placeholder":true,"num":0}}',
        '{"text":"x","number":{"_placeholder":true,"num":0}}',
        '{"text":"x","quoted":{"key":{"id":"y"},"message":[{"_placeholder":true,"num":0}]}}',
    ],
)
def test_binary_data_is_refused(server, instance, content):
    client = Polling(server.url, apikey=instance.token)
    client.join(f"/{instance.name}")

    client.post(f'451-/{instance.name},7["send_message",{content}]', "bAAEC/w==")

    (packet,) = client.poll()
    assert packet.startswith(f"43/{instance.name},7[")
    assert client.event(packet) == [refused(400, "send_message takes no binary data")]


def test_half_an_emoji_is_sent_as_a_question_mark(client):
    """Programs that truncate a string leave a lone surrogate, which JavaScript sends as an escape."""
    assert client.call("send_message", {"text": "truncated \ud83d"})["message"] == {"conversation": "truncated ?"}


def test_a_message_right_before_a_disconnect_is_sent(server, client, instance):
    leaving = Polling(server.url, apikey=instance.token)
    leaving.join(f"/{instance.name}")

    leaving.post(f'42/{instance.name},["send_message",{{"text":"goodbye"}}]', f"41/{instance.name},", "1")

    while client.event("send.message")["data"]["message"] != {"conversation": "goodbye"}:
        pass


# Other integrations


def test_a_whatsapp_web_instance_is_not_connected(server, node):
    instance = server.create(integration="WHATSAPP-BAILEYS")
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    body = {"number": "5511988887777", "text": "x", "id": "an-id"}
    refusal = refused(400, f'The "{instance.name}" instance is not connected')

    assert client.call("send_message", body) == refusal
    assert client.call("send_message", body) == refusal  # the id may be used again
    client.emit("send_message", body)
    assert client.event("error") == refusal
    assert server.post(server.path("/message/sendText", instance), body).json == refusal
    client.disconnect()


def test_an_error_of_the_graph_api_is_the_same_as_over_rest(server, node):
    instance = server.create(integration="WHATSAPP-BUSINESS")
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    body = {"number": "5511988887777", "text": "x"}

    ack = client.call("send_message", body)

    rest = server.post(server.path("/message/sendText", instance), body)
    assert (rest.status, rest.json) == (502, ack)
    assert ack["response"]["message"][0].startswith("The Graph API did not answer")
    client.disconnect()
