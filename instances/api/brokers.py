"""Routes of the brokers that Evolution API has and this server does not, answered as where they are switched off.

An Evolution API without them checks the body and answers with the status alone; nothing is stored.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from instances.access.rights import MANAGE, READ
from instances.api.examples import example_request
from instances.api.fields import Flag, Text
from instances.api.request import InstanceRequest
from instances.api.serializers import RequestBody, WebsocketBody, validate
from instances.api.transports import declared_transports
from instances.integrations import NOTE_HEADER


class PusherBody(WebsocketBody):
    appId = Text(max_length=255)
    key = Text(max_length=255)
    secret = Text(max_length=255)
    cluster = Text(max_length=255)
    useTLS = Flag()


_BROKERS: dict[str, tuple[str, type[RequestBody]]] = {
    "nats": ("NATS", WebsocketBody),
    "sqs": ("SQS", WebsocketBody),
    "kafka": ("Kafka", WebsocketBody),
    "pusher": ("Pusher", PusherBody),
}


_EVENTS = {"enabled": True, "events": ["MESSAGES_UPSERT"]}
_PUSHER = {"appId": "1234", "key": "a-key", "secret": "a-secret", "cluster": "eu", "useTLS": True}
_EXAMPLES = dict.fromkeys(_BROKERS, _EVENTS) | {"pusher": _EVENTS | _PUSHER}


def absent_brokers() -> list[str]:
    """Return the brokers that no transport of settings.EVENT_TRANSPORTS adds."""
    declared = {transport.name for transport in declared_transports()}
    return [name for name in _BROKERS if name not in declared]


@cache
def wrapped_broker_body(name: str) -> type[RequestBody]:
    """Return the serializer of POST /<broker>/set."""
    title, body = _BROKERS[name]
    return type(f"Wrapped{title}", (RequestBody,), {name: body()})


@cache
def set_broker_view(name: str) -> type[APIView]:
    """Return the view of POST /<broker>/set/<name>."""

    class SetBroker(APIView):
        scope = MANAGE

        @extend_schema(
            request=wrapped_broker_body(name),
            responses={201: None},
            examples=[example_request({name: _EXAMPLES[name]})],
        )
        def post(self, request: InstanceRequest, name: str) -> HttpResponse:
            _check(self.broker, request.data)
            return _nothing(self.broker, 201)

        broker = name
        post.__doc__ = f"Check the settings and store nothing, as where {_BROKERS[name][0]} is switched off."

    SetBroker.__name__ = f"Set{_BROKERS[name][0]}"
    return SetBroker


@cache
def find_broker_view(name: str) -> type[APIView]:
    """Return the view of GET /<broker>/find/<name>."""

    class FindBroker(APIView):
        scope = READ

        @extend_schema(responses={200: None})
        def get(self, request: InstanceRequest, name: str) -> HttpResponse:
            return _nothing(self.broker, 200)

        broker = name
        get.__doc__ = f"Return an empty body, as where {_BROKERS[name][0]} is switched off."

    FindBroker.__name__ = f"Find{_BROKERS[name][0]}"
    return FindBroker


def _check(broker: str, data: Any) -> None:
    """Raise ValidationError for settings that are not well formed, nested or flat."""
    is_flat = broker not in data and "enabled" in data
    validate(wrapped_broker_body(broker)(data={broker: data} if is_flat else data))


def _nothing(broker: str, status: int) -> HttpResponse:
    note = f"This server has no {_BROKERS[broker][0]}: nothing is stored, and no event is sent to it"
    return HttpResponse(status=status, content_type="application/json", headers={NOTE_HEADER: note})
