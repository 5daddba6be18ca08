"""Integrations: what models, forms and routes know of a provider, as each of settings.PROVIDERS declares it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

#: Characters of the column `Instance.integration`.
MAX_INTEGRATION_LENGTH = 32

#: The members of a new instance that a provider may use, by the names of POST /instance/create, with their columns.
MEMBERS = {"token": "provider_token", "number": "number", "businessId": "business_id"}


#: The response header with an integration's `note`.
NOTE_HEADER = "X-Evoapi-Note"


class Integration:
    """The declaration of an integration; `Provider` adds the behaviour."""

    #: The value of `integration` in Evolution API's bodies.
    integration: ClassVar[str]
    #: The name for people.
    label: ClassVar[str]
    #: What it takes of a new instance: a description of each of MEMBERS that it uses, for forms and OpenAPI.
    members: ClassVar[Mapping[str, str]] = {}
    #: Those of `members` without which no instance can be created.
    required: ClassVar[tuple[str, ...]] = ()
    #: "number" or "businessId", where its payloads name an instance by it, so that no two instances may have the same;
    #: "" for none.
    unique: ClassVar[str] = ""
    #: The connection state of a new instance, and whether POST /instance/create may name another one.
    initial_state: ClassVar[str] = "open"
    takes_state: ClassVar[bool] = True
    #: True if a program of the operator's reports its connection state: it is as reported until it is logged out.
    reports_state: ClassVar[bool] = False
    #: True if the token of POST /instance/create is its credential, too, which several instances may have in common.
    token_is_credential: ClassVar[bool] = False
    #: True if `number` is the instance's phone number.
    number_is_phone: ClassVar[bool] = False
    #: True if events name the instance's address as `sender`, as those of Evolution API's WhatsApp Web do.
    names_sender: ClassVar[bool] = False
    #: The path that its platform posts to, where instances share one; shown as `webhookWaBusiness`.
    callback_path: ClassVar[str] = ""

    #: True if the media of its messages are on its platform, from which they can be fetched.
    keeps_media: ClassVar[bool] = False
    #: The error of a route that its channel cannot serve, in Evolution API's words; `{name}` is the instance's name.
    unavailable: ClassVar[str] = "Method not available on this channel"
    #: The error of the template routes, where that is another.
    no_templates: ClassVar[str] = ""

    #: What an instance needs besides this server to send and receive, in ASCII; "" for nothing. Clients get it in
    #: the header NOTE_HEADER when they create one or send a message.
    note: ClassVar[str] = ""

    @property
    def verify_token(self) -> str:
        """The token by which its platform verifies `callback_path`; shown as `accessTokenWaBusiness`."""
        return ""

    def unique_key(self, instance: Any) -> str | None:
        """Return the value that no other instance of this integration may have; None where it may repeat."""
        return getattr(instance, MEMBERS[self.unique]) or None if self.unique else None


class NoIntegration(Integration):
    """The integration of instances whose provider is not registered (any more)."""

    takes_state = False

    def __init__(self, name: str) -> None:
        self.label = name  # type: ignore[misc] # of this object alone


@cache
def integrations() -> dict[str, Integration]:
    """Return the providers of settings.PROVIDERS by integration. Raises ImproperlyConfigured for a wrong one."""
    found: dict[str, Integration] = {}
    for path in settings.PROVIDERS:
        provider = import_string(path)()
        if error := _error(provider, found):
            raise ImproperlyConfigured(f"settings.PROVIDERS: {path} {error}")
        found[provider.integration] = provider
    return found


def _error(provider: Any, others: Mapping[str, Integration]) -> str:
    """Return what is wrong with a declaration, as a continuation of the provider's path; "" if nothing is."""
    name = getattr(provider, "integration", "")
    if not isinstance(provider, Integration):
        return "is no Integration: derive it from instances.providers.base.Provider"
    if not name or not getattr(provider, "label", ""):
        return "declares no `integration`, or no `label`"
    if len(name) > MAX_INTEGRATION_LENGTH:
        return f"has an `integration` of more than {MAX_INTEGRATION_LENGTH} characters"
    if name in others:
        return f'has the integration "{name}" of {type(others[name]).__name__}'
    named = {*provider.required, *filter(None, [provider.unique])}
    if unknown := sorted({*provider.members, *named} - set(MEMBERS)):
        return f"uses {', '.join(unknown)}; an instance has {', '.join(MEMBERS)}"
    if provider.unique == "token":
        return "cannot tell its instances apart by their token, which is stored encrypted"
    if undescribed := sorted(named - set(provider.members)):
        return f"does not describe {', '.join(undescribed)} in `members`"
    return ""


def integration_of(name: str) -> Integration:
    """Return an integration by name, a NoIntegration if its provider is not registered."""
    return integrations().get(name) or NoIntegration(name)


def shared_credentials() -> list[str]:
    """Return the names of the integrations whose instances may have their token in common."""
    return [name for name, integration in integrations().items() if integration.token_is_credential]


def described(member: str) -> str:
    """Return the descriptions that the integrations give of a member of new instances, in one text."""
    texts = []
    for integration in integrations().values():
        if text := integration.members.get(member):
            texts.append(f"{integration.label}: {text}{', required' if member in integration.required else ''}.")
    return " ".join(texts)
