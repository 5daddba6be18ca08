"""Providers: the connections to WhatsApp, one file each, listed in settings.PROVIDERS."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from instances.providers.base import Provider


@cache
def providers() -> dict[str, Provider]:
    """Return the providers by integration."""
    loaded = [import_string(path)() for path in settings.PROVIDERS]
    return {provider.integration: provider for provider in loaded}
