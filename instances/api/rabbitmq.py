"""RabbitMQ settings in Evolution API's bodies: which events are published to the exchange of an instance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings

from instances.api.serializers import CreateWebsocketBody, RequestBody, WebsocketBody, validate
from instances.errors import ApiError
from instances.events import EventType
from instances.models import Instance, Subscription

#: Bytes in the name of a queue or exchange: AMQP 0-9-1's short string, https://www.rabbitmq.com/docs/queues#names.
MAX_NAME = 255


class WrappedRabbitMQ(RequestBody):
    rabbitmq = WebsocketBody()


def validate_set(data: Any) -> dict[str, Any]:
    """Return the validated members of a POST /rabbitmq/set body, nested or flat. Raises ValidationError."""
    is_flat = "rabbitmq" not in data and "enabled" in data
    return validate(WrappedRabbitMQ(data={"rabbitmq": data} if is_flat else data))["rabbitmq"]


class CreateWithRabbitMQ(RequestBody):
    rabbitmq = CreateWebsocketBody(required=False)


def validate_create(data: Any) -> dict[str, Any] | None:
    """Return the validated `rabbitmq` member of a POST /instance/create body; None where RabbitMQ is disabled.

    Clients send it to servers without RabbitMQ too, where it is ignored. Raises ValidationError.
    """
    if not (settings.RABBITMQ_ENABLED and data.get("rabbitmq")):
        return None
    return validate(CreateWithRabbitMQ(data={"rabbitmq": data["rabbitmq"]}))["rabbitmq"]


def first_rabbitmq(subscriptions: Iterable[Subscription]) -> Subscription | None:
    """Return the RabbitMQ subscription that Evolution API's routes use: the oldest, where the admin added several."""
    found = (subscription for subscription in subscriptions if subscription.transport == Subscription.RABBITMQ)
    return min(found, key=lambda subscription: subscription.pk, default=None)


def set_rabbitmq(instance: Instance, is_enabled: bool, events: list[str]) -> Subscription:
    """Store the RabbitMQ settings of an instance, by Evolution's rules.

    An empty list means all events; disabled settings keep no events. Raises ApiError where RabbitMQ is disabled on
    this server, or cannot have an exchange and queues of the instance's name.
    """
    if is_enabled:
        _check(instance.name)
    endpoint = first_rabbitmq(instance.subscriptions.all()) or Subscription(
        instance=instance, transport=Subscription.RABBITMQ
    )
    endpoint.is_enabled, endpoint.events = is_enabled, events if is_enabled else []
    endpoint.options = {"exchange": instance.name} | endpoint.options
    endpoint.failing_since, endpoint.disabled_reason = None, ""
    endpoint.save()
    return endpoint


def _check(name: str) -> None:
    if not settings.RABBITMQ_ENABLED:
        raise ApiError("RabbitMQ is disabled on this server: RABBITMQ_ENABLED is not true")
    if name.startswith("amq.") or name == settings.RABBITMQ_EXCHANGE_NAME:
        raise ApiError(f'An instance named "{name}" cannot have an exchange: RabbitMQ or this server uses that name')
    if len(name.encode()) + 1 + max(map(len, EventType.values)) > MAX_NAME:
        raise ApiError(f'"{name}" is too long for a queue name')
