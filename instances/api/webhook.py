"""Webhooks as Evolution API's routes take them: nested and flat bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from instances.api.fields import Array, EventName, Flag, Text
from instances.api.serializers import Body, validate
from instances.errors import ApiError
from instances.events import DEFAULT_EVENTS
from instances.models import Instance, Subscription
from instances.models.subscription import SubscriptionQuerySet
from instances.outbound.ssrf_guard import check_url
from instances.outbound.webhook_headers import MAX_VALUE, check_headers
from instances.outbound.webhook_secrets import new_secret

MAX_URL_LENGTH = 2048

#: How clients spell the members, by our names: v1.x, v2.0.x, and what n8n's node puts into the nested form.
ALIASES = {
    "byEvents": ("byEvents", "webhookByEvents", "webhook_by_events"),
    "base64": ("base64", "webhookBase64", "webhook_base64"),
}


class HeadersField(serializers.Field):
    """Names and values of headers that are sent along; null stands for none."""

    default_error_messages = {"type": "is not of a type(s) object"}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, **kwargs)

    def to_internal_value(self, data: Any) -> dict[str, str]:
        if not isinstance(data, dict):
            self.fail("type")
        try:
            return check_headers(data)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None

    def schema(self) -> dict[str, Any]:
        values = [{"type": "string", "maxLength": MAX_VALUE}, {"type": "number"}, {"type": "boolean"}]
        return {"type": "object", "additionalProperties": {"oneOf": values}}


class Url(Text):
    """Of a webhook. Where it leads is looked at apart: `check_public_url`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=MAX_URL_LENGTH, **kwargs)

    def schema(self) -> dict[str, Any]:
        return {"format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://", "minLength": 1}


class WebhookBody(Body):
    """The nested form, with its aliases made one."""

    enabled = Flag()
    url = Text(max_length=MAX_URL_LENGTH)
    headers = HeadersField(required=False)
    byEvents = Flag(required=False)
    base64 = Flag(required=False)
    events = Array(child=EventName(), default=list)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(normalize_aliases(data))


class WrappedWebhook(Body):
    webhook = WebhookBody()


class CreateWebhookBody(WebhookBody):
    """At creation, to name the transport is to want it."""

    enabled = Flag(default=True)


class CreateWithWebhook(Body):
    webhook = CreateWebhookBody(required=False)


def normalize_aliases(told: Mapping[str, Any]) -> dict[str, Any]:
    """The members under our names, whichever of theirs a client uses; of several, the first that it gives counts."""
    found = dict(told)
    for name, spellings in ALIASES.items():
        if spelling := next((one for one in spellings if one in told), None):
            found[name] = told[spelling]
    return found


def validate_set(data: Any) -> dict[str, Any]:
    """What POST /webhook/set is told, nested or flat. Raises ValidationError."""
    is_flat = "webhook" not in data and "url" in data
    # v1.x has no word for enabled: to set a webhook is to want it
    return validate(WrappedWebhook(data={"webhook": {"enabled": True} | dict(data)} if is_flat else data))["webhook"]


def validate_create(data: Any) -> dict[str, Any] | None:
    """What POST /instance/create is told of a webhook: an object or, in v1, a URL with flags beside it.

    None if it is told of none. Raises ValidationError.
    """
    told = data.get("webhook")
    if told == "" or "webhook" not in data:
        return None  # v1's clients send an empty text where nothing was filled in
    if isinstance(told, str):
        beside = {name: data[name] for names in ALIASES.values() for name in names if name in data}
        beside |= {"events": data["events"]} if "events" in data else {}
        told = {"url": told} | beside
    return validate(CreateWithWebhook(data={"webhook": told}))["webhook"]


def needs_url_check(told: Mapping[str, Any]) -> bool:
    """Whether the URL is one to use; n8n's node says `vazio` when it switches a webhook off, and that is none."""
    return bool(told["enabled"] or "://" in told["url"])


def check_public_url(url: str) -> None:
    """Raises ApiError for a URL that plainly leads nowhere, or inside."""
    try:
        check_url(url)
    except ValueError as error:
        raise ApiError(str(error)) from None


def webhooks_of(instance: Instance) -> SubscriptionQuerySet:
    return Subscription.objects.filter(instance=instance, transport=Subscription.WEBHOOK).order_by("pk")


def first_webhook(instance: Instance) -> Subscription | None:
    """The endpoint that Evolution's routes are about, which know of one alone."""
    return webhooks_of(instance).first()


def set_webhook(instance: Instance, told: Mapping[str, Any]) -> Subscription:
    """Evolution's rules: an empty list means all events, and one that is off keeps none, but its URL.

    What is not told stays as it is. The caller holds the instance.
    """
    endpoint = webhooks_of(instance).select_for_update().first() or new_endpoint(instance)
    apply_changes(endpoint, told if needs_url_check(told) else {name: told[name] for name in told if name != "url"})
    endpoint.is_enabled = told["enabled"]
    endpoint.events = (told["events"] or DEFAULT_EVENTS) if told["enabled"] else []
    endpoint.save()
    return endpoint


def new_endpoint(instance: Instance, secret: str = "") -> Subscription:
    """One without a URL yet; the caller saves it."""
    options = {"url": "", "byEvents": False, "base64": False, "ordered": False}
    endpoint = Subscription(instance=instance, transport=Subscription.WEBHOOK, options=options)
    endpoint.keep_secrets(signing=[secret or new_secret()])
    return endpoint


def apply_changes(endpoint: Subscription, told: Mapping[str, Any]) -> None:
    """Those of an endpoint's options and headers that are told of; the caller saves it."""
    options = {name: told[name] for name in ("url", "byEvents", "base64", "ordered") if name in told}
    endpoint.options = endpoint.options | options
    if "headers" in told:
        endpoint.keep_secrets(headers=told["headers"] or {})
    if told.get("enabled"):
        endpoint.failing_since, endpoint.disabled_reason = None, ""
