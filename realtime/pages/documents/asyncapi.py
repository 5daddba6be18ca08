"""The AsyncAPI 3 document: what clients receive over each transport, and what sockets may send.

https://www.asyncapi.com/docs/reference/specification/v3.0.0. It describes this server: `send` is what it sends.
"""

from __future__ import annotations

from typing import Any

from instances.events import EventType, schemas
from instances.events.json_schema import Schema, either, flag, record, text, whole
from realtime.pages.documents import examples
from realtime.pages.documents.event_schemas import event_schema

#: The versions of the bindings to WebSocket and AMQP that this document has.
WS_BINDING, AMQP_BINDING = "0.1.0", "0.3.0"
#: The channels that events are sent on, each with what begins the names of its messages.
SOCKETS, STREAM, WEBHOOK, RABBITMQ = "", "stream.", "webhook.", "rabbitmq."

_DESCRIPTION = """\
The events of WhatsApp numbers, by Socket.IO, server-sent events, webhooks and RabbitMQ: the same JSON object by each.
Sockets speak Socket.IO's protocol 5 on Engine.IO 4; each instance is a namespace, and `/` has the events of all."""

_ERROR: Schema = record(
    "An error, as of REST.",
    {
        "status": whole("The HTTP status."),
        "error": text("Its name."),
        "response": record("The cause.", {"message": {"description": "A text, or a list of texts."}}),
    },
)
_SEND_MESSAGE: Schema = record(
    "The body of POST /message/sendText.",
    {},
    {
        "number": text("The phone number or address of the receiver; left out, the instance's own."),
        "text": text("The text; `message` is taken for it, too."),
        "instance": text("On `/`: the name of the instance that sends."),
        "id": text("An id of your own, which makes a repeat safe: it is answered with the first result."),
        "retryUnknown": flag("True to send again what may have been sent: its outcome is unknown."),
    },
)
_WEBHOOK_HEADERS: Schema = record(
    "Those of Standard Webhooks, and Evolution API's.",
    {
        "webhook-id": text("The id of the event, the same in every attempt."),
        "webhook-timestamp": text("The time of the attempt in seconds since 1970."),
        "X-Instance-ID": text("The id of the instance."),
        "X-Instance-Name": text("The name of the instance; what is not ASCII is percent-encoded UTF-8."),
        "X-Event-Type": text("The type of the event."),
        "X-Timestamp": text("The time of the event in milliseconds since 1970."),
    },
    {
        "webhook-signature": text(
            "`v1,` and the signature in base64; several of them, separated by spaces, while secrets rotate."
        )
    },
)
_RABBITMQ_HEADERS: Schema = record("The header of the message.", {"seq": whole("The number of the event.", minimum=0)})


def asyncapi_document() -> dict[str, Any]:
    """Return the document."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:evoapi",
        "info": {
            "title": "evoapi",
            "version": "1",
            "description": _DESCRIPTION,
            "tags": [{"name": "whatsapp"}],
            "externalDocs": {
                "description": "The events, with schemas and examples",
                "url": "https://evo.example.com/docs/events/",
            },
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "schemas": {
                **{each.value: _without_dialect(event_schema(each)) for each in _types()},
                "send_message": _SEND_MESSAGE,
                "message": schemas.MESSAGE,
                "error": _ERROR,
                "gap": _gap(),
            },
            "messages": _messages(),
            "securitySchemes": {
                "apikey": {
                    "type": "httpApiKey",
                    "in": "header",
                    "name": "apikey",
                    "description": "A key that may listen; Socket.IO takes it in `auth.apikey` as well.",
                },
                "token": {
                    "type": "httpApiKey",
                    "in": "query",
                    "name": "token",
                    "description": "A token minted by POST /websocket/token; Socket.IO takes it in `auth.token` alone.",
                },
                "broker": {"type": "userPassword", "description": "Those of RABBITMQ_URI."},
            },
        },
    }


def _types() -> list[EventType]:
    return [each for each in EventType if each.is_subscribable]


def _without_dialect(schema: Schema) -> Schema:
    """Return a schema as a part of this document, whose dialect is AsyncAPI's own."""
    return {name: value for name, value in schema.items() if name not in ("$schema", "$id")}


def _ref(*names: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(name.replace("~", "~0").replace("/", "~1") for name in names)}


def _servers() -> dict[str, Any]:
    host = {"host": {"default": "evo.example.com", "description": "The host of this server, with its port."}}
    keys = [_ref("components", "securitySchemes", "apikey"), _ref("components", "securitySchemes", "token")]
    return {
        "sockets": {
            "host": "{host}",
            "pathname": "/socket.io/",
            "protocol": "wss",
            "protocolVersion": "Socket.IO 5, Engine.IO 4",
            "description": "Socket.IO; by ws where the server is reached by http.",
            "variables": host,
            "security": keys,
        },
        "http": {
            "host": "{host}",
            "protocol": "https",
            "description": "Server-sent events.",
            "variables": host,
            "security": keys,
        },
        "rabbitmq": {
            "host": "{broker}",
            "protocol": "amqps",
            "protocolVersion": "0.9.1",
            "description": "The broker of RABBITMQ_URI, where RABBITMQ_ENABLED is true.",
            "variables": {"broker": {"default": "rabbit.example.com", "description": "The host of the broker."}},
            "security": [_ref("components", "securitySchemes", "broker")],
        },
    }


def _channels() -> dict[str, Any]:
    instance = {"instance": {"description": "The name of the instance.", "examples": ["loja"]}}
    sockets = {"servers": [_ref("servers", "sockets")], "bindings": _socket_bindings()}
    from_sockets = {name: _ref("components", "messages", name) for name in ("send_message", "sent", "error")}
    return {
        "instance": {
            "address": "/{instance}",
            "title": "The namespace of an instance",
            "description": "Its events. A socket joins with a key or token that may listen to it.",
            "parameters": instance,
            "messages": _sent_messages(SOCKETS) | from_sockets,
            **sockets,
        },
        "all": {
            "address": "/",
            "title": "The namespace of all instances",
            "description": "The events of all instances in one order, for keys that open all.",
            "messages": _sent_messages(SOCKETS) | from_sockets,
            **sockets,
        },
        "stream": {
            "address": "/event/stream/{instance}",
            "title": "Server-sent events of an instance",
            "description": "`id` is the event's id, from which `Last-Event-ID` goes on.",
            "servers": [_ref("servers", "http")],
            "parameters": instance,
            "messages": _sent_messages(STREAM)
            | {name: _ref("components", "messages", name) for name in ("gap", "error")},
            "bindings": {"http": {"bindingVersion": "0.3.0"}},
        },
        "webhook": {
            "address": None,
            "title": "Webhooks",
            "description": "POST requests to the URL of each endpoint, signed as Standard Webhooks has it.",
            "servers": [],
            "messages": _sent_messages(WEBHOOK),
            "bindings": {"http": {"bindingVersion": "0.3.0"}},
        },
        "rabbitmq": {
            "address": "{event}",
            "title": "RabbitMQ",
            "description": "The routing key is the type of the event. The exchange has the name of the instance.",
            "servers": [_ref("servers", "rabbitmq")],
            "parameters": {
                "event": {"description": "The type of the event.", "enum": [each.value for each in _types()]}
            },
            "messages": _sent_messages(RABBITMQ),
            "bindings": {
                "amqp": {
                    "is": "routingKey",
                    "exchange": {"name": "loja", "type": "topic", "durable": True, "autoDelete": False},
                    "bindingVersion": AMQP_BINDING,
                }
            },
        },
    }


def _socket_bindings() -> dict[str, Any]:
    query = record(
        "The query of the handshake.",
        {
            "EIO": text("The version of Engine.IO.", const="4"),
            "transport": text("The transport.", enum=["websocket", "polling"]),
        },
        {"apikey": text("A key, where neither header nor `auth` can have it.")},
    )
    return {"ws": {"method": "GET", "query": query, "bindingVersion": WS_BINDING}}


def _sent_messages(prefix: str) -> dict[str, Any]:
    return {each.value: _ref("components", "messages", prefix + each.value) for each in _types()}


def _operations() -> dict[str, Any]:
    sends = {
        "sendToNamespace": ("instance", "Send events to the sockets of an instance's namespace."),
        "sendToAll": ("all", "Send the events of all instances to the sockets of `/`."),
        "stream": ("stream", "Send an instance's events as server-sent events."),
        "postToWebhook": ("webhook", "Post events to the endpoints that are subscribed to them, until they are taken."),
        "publishToRabbitMQ": ("rabbitmq", "Publish events to RabbitMQ, until it confirms them."),
    }
    events = [each.value for each in _types()]
    operations: dict[str, Any] = {
        name: {
            "action": "send",
            "channel": _ref("channels", channel),
            "summary": summary,
            "messages": [_ref("channels", channel, "messages", event) for event in events],
        }
        for name, (channel, summary) in sends.items()
    }
    for name, channel in (("sendMessage", "instance"), ("sendMessageOfAny", "all")):
        operations[name] = {
            "action": "receive",
            "channel": _ref("channels", channel),
            "summary": "Take a text message to send, and acknowledge it with the message or an error.",
            "messages": [_ref("channels", channel, "messages", "send_message")],
            "reply": {"messages": [_ref("channels", channel, "messages", "sent")]},
        }
        operations[f"refuse{channel.title()}"] = {
            "action": "send",
            "channel": _ref("channels", channel),
            "summary": "Say which option of a socket could not be followed.",
            "messages": [_ref("channels", channel, "messages", "error")],
        }
    operations["explainStream"] = {
        "action": "send",
        "channel": _ref("channels", "stream"),
        "summary": "Say that events before the next one are no longer kept, or which option could not be followed.",
        "messages": [_ref("channels", "stream", "messages", name) for name in ("gap", "error")],
    }
    return operations


def _messages() -> dict[str, Any]:
    found = {prefix + each.value: _message(prefix, each) for prefix in _HEADERS for each in _types()}
    return found | {
        "send_message": {
            "name": "send_message",
            "title": "A text message to send",
            "payload": _ref("components", "schemas", "send_message"),
            "examples": [{"payload": {"number": "5511988887777", "text": "Hello, World!"}}],
        },
        "sent": {
            "name": "send_message",
            "title": "The acknowledgement of send_message",
            "payload": either(_ref("components", "schemas", "message"), _ref("components", "schemas", "error")),
        },
        "error": {
            "name": "error",
            "title": "An option that could not be followed",
            "payload": _ref("components", "schemas", "error"),
        },
        "gap": {
            "name": "gap",
            "title": "Events that are no longer kept",
            "payload": _ref("components", "schemas", "gap"),
        },
    }


#: The headers of the messages of each channel.
_HEADERS: dict[str, Schema | None] = {
    SOCKETS: None,
    STREAM: None,
    WEBHOOK: _WEBHOOK_HEADERS,
    RABBITMQ: _RABBITMQ_HEADERS,
}


def _message(prefix: str, event_type: EventType) -> dict[str, Any]:
    headers = _HEADERS[prefix]
    return {
        "name": event_type.value,
        "title": event_type.name,
        "summary": str(event_type.label),
        "contentType": "application/json",
        "payload": _ref("components", "schemas", event_type.value),
        **({"headers": headers} if headers else {}),
        "examples": [{"name": "sample", "payload": examples.envelope(event_type)}],
    }


def _gap() -> Schema:
    return record(
        "A gap in a stream.",
        {
            "event": text("`gap`.", const="gap"),
            "instance": text("The name of the instance."),
            "data": record("The gap.", {"first": whole("The `seq` of the oldest event that is kept.")}),
        },
    )
