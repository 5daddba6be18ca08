"""Providers: the connections to WhatsApp, one file each, listed in settings.PROVIDERS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from instances.errors import ApiError
from instances.ingress.endpoint import IngressEndpoint
from instances.integrations import integrations
from instances.models import Instance
from instances.providers.base import Provider


def providers() -> dict[str, Provider]:
    """Return the providers by integration."""
    return cast(dict[str, Provider], integrations())


def provider_of(instance: Instance) -> Provider:
    """Return the provider of an instance. Raises ApiError (409) if this server has none for its integration."""
    provider = providers().get(instance.integration)
    if provider is None:
        raise ApiError(
            f'The "{instance.name}" instance has the integration "{instance.integration}", and this server has no '
            "provider of it: settings.PROVIDERS lists those that it has",
            409,
        )
    return provider


def ingress_endpoints() -> Iterator[IngressEndpoint]:
    """Yield the endpoints that providers take payloads at."""
    for provider in providers().values():
        yield from provider.endpoints
