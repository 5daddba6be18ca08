"""RabbitMQ as Evolution API's routes take it: which events of an instance go to the exchange of its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings

from instances.api.serializers import Body, CreateWebsocketBody, WebsocketBody, validate
from instances.errors import ApiError
from instances.events import DEFAULT_EVENTS, EventType
from instances.models import Instance, Subscription

#: AMQP's bound for names, in bytes.
MAX_NAME = 255


class WrappedRabbitMQ(Body):
    rabbitmq = WebsocketBody()


def validate_set(data: Any) -> dict[str, Any]:
    """What POST /rabbitmq/set is told, nested or flat. Raises ValidationError."""
    is_flat = "rabbitmq" not in data and "enabled" in data
    return validate(WrappedRabbitMQ(data={"rabbitmq": data} if is_flat else data))["rabbitmq"]


class CreateWithRabbitMQ(Body):
    rabbitmq = CreateWebsocketBody(required=False)


def validate_create(data: Any) -> dict[str, Any] | None:
    """What POST /instance/create is told of it; clients name it also to servers without, which do not look.

    Raises ValidationError.
    """
    if not (settings.RABBITMQ_ENABLED and data.get("rabbitmq")):
        return None
    return validate(CreateWithRabbitMQ(data={"rabbitmq": data["rabbitmq"]}))["rabbitmq"]


def first_rabbitmq(subscriptions: Iterable[Subscription]) -> Subscription | None:
    """The row that Evolution API's routes mean, where the admin holds several."""
    return min(
        (one for one in subscriptions if one.transport == Subscription.RABBITMQ), key=lambda one: one.pk, default=None
    )


def set_rabbitmq(instance: Instance, is_enabled: bool, events: list[str]) -> Subscription:
    """Evolution's rules: an empty list means all events, and one that is off keeps none.

    Raises ApiError where RabbitMQ is off, or cannot have an exchange and queues of the instance's name.
    """
    if is_enabled:
        _check(instance.name)
    endpoint = first_rabbitmq(instance.subscriptions.all()) or Subscription(
        instance=instance, transport=Subscription.RABBITMQ
    )
    endpoint.is_enabled, endpoint.events = is_enabled, (events or DEFAULT_EVENTS) if is_enabled else []
    endpoint.options = {"exchange": instance.name} | endpoint.options
    endpoint.failing_since, endpoint.disabled_reason = None, ""
    endpoint.save()
    return endpoint


def _check(name: str) -> None:
    if not settings.RABBITMQ_ENABLED:
        raise ApiError("RabbitMQ is off on this server: RABBITMQ_ENABLED is not true")
    if name.startswith("amq.") or name == settings.RABBITMQ_EXCHANGE_NAME:
        raise ApiError(
            f'An instance named "{name}" can have no exchange of its own: RabbitMQ or this server uses that name'
        )
    if len(name.encode()) + 1 + max(map(len, EventType.values)) > MAX_NAME:
        raise ApiError(f'"{name}" is too long for the names of queues')
