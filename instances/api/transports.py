"""Transports as clients set them: what each of settings.EVENT_TRANSPORTS declares, and its subscriptions.

From the declaration come the routes /<transport>/set and /<transport>/find, the member of POST /instance/create and of
fetchInstances, and the form in the admin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from rest_framework.serializers import Field

from instances.api.serializers import CreateWebsocketBody, RequestBody, WebsocketBody, validate
from instances.errors import ApiError
from instances.models import Instance, Subscription

#: Characters of the column `Subscription.transport`.
MAX_TRANSPORT_LENGTH = 32


class NoOptions(RequestBody):
    """The options of a transport whose subscriptions are switched on and off, and select events."""


class TransportSettings:
    """The declaration of a transport's subscriptions; `Transport` adds the sending."""

    #: The value of `Subscription.transport`, and the name in routes and bodies.
    name: ClassVar[str]
    #: The name for people, and in the names of the OpenAPI document; without spaces.
    title: ClassVar[str]
    #: The events that a subscription selects, in words, as in "Set the events that …".
    description: ClassVar[str] = "the events that are sent by this transport"
    #: The members of a body besides `enabled` and `events`. Fields that are `write_only` are stored encrypted, and not
    #: shown.
    options: ClassVar[type[RequestBody]] = NoOptions
    #: True if a subscription may be for all instances; only the admin can add one.
    takes_all_instances: ClassVar[bool] = True
    #: True if its routes, its member of POST /instance/create and its form are written by hand, as the webhook's are.
    has_own_routes: ClassVar[bool] = False

    @property
    def is_offered(self) -> bool:
        """False if POST /instance/create is to ignore its member, because clients send that to every server."""
        return True

    def check(self, instance: Instance | None) -> None:
        """Raise ValueError, a sentence without a full stop, if an instance cannot have an enabled subscription."""

    def initial_options(self, instance: Instance | None) -> dict[str, Any]:
        """Return options that a subscription has from the start, whatever a client sets."""
        return {}

    def target(self, options: Mapping[str, Any]) -> str:
        """Return where a subscription with these options sends to, for people to read."""
        return ", ".join(str(options[name]) for name in self.shown_names if options.get(name) not in (None, ""))

    @property
    def shown_names(self) -> list[str]:
        """The names of the options that are no secrets."""
        return [name for name, field in self.fields.items() if not field.write_only]

    @property
    def secret_names(self) -> list[str]:
        return [name for name, field in self.fields.items() if field.write_only]

    @property
    def fields(self) -> dict[str, Field]:
        """The options by name."""
        return dict(self.options().fields)


@cache
def registered_transports() -> dict[str, Any]:
    """Return the transports of settings.EVENT_TRANSPORTS by name. Raises ImproperlyConfigured for a wrong one."""
    found: dict[str, Any] = {}
    for path in settings.EVENT_TRANSPORTS:
        transport = import_string(path)()
        if error := _error(transport, found):
            raise ImproperlyConfigured(f"settings.EVENT_TRANSPORTS: {path} {error}")
        found[transport.name] = transport
    return found


def _error(transport: Any, others: Mapping[str, TransportSettings]) -> str:
    """Return what is wrong with a declaration, as a continuation of the transport's path; "" if nothing is."""
    name, title = getattr(transport, "name", ""), getattr(transport, "title", "")
    if not isinstance(transport, TransportSettings):
        return "is no Transport: derive it from realtime.delivery.transports.base.Transport"
    if not name or not title.isidentifier():
        return "declares no `name`, or no `title` without spaces"
    if len(name) > MAX_TRANSPORT_LENGTH or not name.isascii() or not name.isidentifier():
        return f"has a `name` that is not of up to {MAX_TRANSPORT_LENGTH} letters, digits and underscores"
    if name == Subscription.WEBSOCKET or name in others:
        return f'has the name "{name}" of another transport'
    if taken := {"enabled", "events"} & set(transport.fields):
        return f"has options named {', '.join(sorted(taken))}, which every subscription has"
    return ""


def declared_transports() -> list[TransportSettings]:
    """Return the transports whose routes and forms come from their declaration."""
    return [transport for transport in registered_transports().values() if not transport.has_own_routes]


# Bodies


@cache
def body_of(transport: TransportSettings) -> type[RequestBody]:
    """Return the serializer of a transport's settings."""
    return _with_options(transport, WebsocketBody, f"{transport.title}Body")


@cache
def wrapped_body_of(transport: TransportSettings) -> type[RequestBody]:
    """Return the serializer of POST /<transport>/set."""
    return type(f"Wrapped{transport.title}", (RequestBody,), {transport.name: body_of(transport)()})


@cache
def create_body_of(transport: TransportSettings) -> type[RequestBody]:
    """Return the serializer of the member of POST /instance/create, enabled unless it says otherwise."""
    return _with_options(transport, CreateWebsocketBody, f"Create{transport.title}Body")


def _with_options(transport: TransportSettings, base: type[RequestBody], name: str) -> type[RequestBody]:
    return type(name, (transport.options, base), {}) if transport.fields else base


def validate_set(transport: TransportSettings, data: Any) -> dict[str, Any]:
    """Return the validated members of a POST /<transport>/set body, nested or flat. Raises ValidationError."""
    name = transport.name
    is_flat = name not in data and "enabled" in data
    validated: dict[str, Any] = validate(wrapped_body_of(transport)(data={name: data} if is_flat else data))[name]
    return validated


def validate_create(transport: TransportSettings, data: Any) -> dict[str, Any] | None:
    """Return the validated member of a POST /instance/create body; None where there is none. Raises ValidationError."""
    name = transport.name
    if not (transport.is_offered and data.get(name)):
        return None
    body = type(f"CreateWith{transport.title}", (RequestBody,), {name: create_body_of(transport)(required=False)})
    validated: dict[str, Any] = validate(body(data={name: data[name]}))[name]
    return validated


# Subscriptions


def first_endpoint(transport: TransportSettings, subscriptions: Iterable[Subscription]) -> Subscription | None:
    """Return the subscription that Evolution API's routes use: the oldest, where the admin added several."""
    found = (subscription for subscription in subscriptions if subscription.transport == transport.name)
    return min(found, key=lambda subscription: subscription.pk, default=None)


def set_endpoint(transport: TransportSettings, instance: Instance, validated: Mapping[str, Any]) -> Subscription:
    """Store the settings of an instance, by Evolution's rules.

    An empty list means all events; disabled settings keep no events. Raises ApiError where the instance cannot have
    enabled ones.
    """
    if validated["enabled"]:
        try:
            transport.check(instance)
        except ValueError as error:
            raise ApiError(str(error)) from None
    endpoint = first_endpoint(transport, instance.subscriptions.all()) or Subscription(
        instance=instance, transport=transport.name
    )
    endpoint.is_enabled, endpoint.events = validated["enabled"], validated["events"] if validated["enabled"] else []
    apply_options(transport, endpoint, validated)
    endpoint.failing_since, endpoint.disabled_reason = None, ""
    endpoint.save()
    return endpoint


def apply_options(transport: TransportSettings, endpoint: Subscription, validated: Mapping[str, Any]) -> None:
    """Set the validated options and secrets; the caller saves the endpoint."""
    options = {name: validated[name] for name in transport.shown_names if name in validated}
    endpoint.options = transport.initial_options(endpoint.instance) | endpoint.options | options
    if transport.secret_names:
        endpoint.keep_secrets(**{name: validated[name] for name in transport.secret_names if name in validated})


def shown_options(transport: TransportSettings, endpoint: Subscription) -> dict[str, Any]:
    """Return the options for clients, without secrets."""
    return {name: endpoint.options.get(name) for name in transport.shown_names}
