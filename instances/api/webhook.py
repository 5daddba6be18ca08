"""Webhook settings in Evolution API's nested and flat bodies, and the endpoint rows that store them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from instances.api.fields import Distinct, EventName, Flag, Text
from instances.api.serializers import RequestBody, validate
from instances.bounds import ENDPOINTS
from instances.errors import ApiError
from instances.integrations import NOTE_HEADER
from instances.models import Instance, Subscription
from instances.models.subscription import SubscriptionQuerySet
from instances.outbound import ssrf_guard
from instances.outbound.inbox_urls import check_receiver, inbox_url
from instances.outbound.webhook_headers import MAX_VALUE, check_headers
from instances.outbound.webhook_secrets import new_secret

MAX_URL_LENGTH = 2048

#: The names of an endpoint's options.
OPTIONS = ("url", "byEvents", "base64", "ordered", "followRedirects")

#: Aliases of members, by our names: those of v1.x and v2.0.x, and those that n8n's node puts into the nested form.
ALIASES = {
    "byEvents": ("byEvents", "webhookByEvents", "webhook_by_events"),
    "base64": ("base64", "webhookBase64", "webhook_base64"),
}


class HeadersField(serializers.Field):
    """Names and values of the headers that are sent to the endpoint; null removes all."""

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
    """The URL of a webhook; `check_public_url` checks its host separately."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=MAX_URL_LENGTH, **kwargs)

    def schema(self) -> dict[str, Any]:
        return {"format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://", "minLength": 1}


#: All aliases of members.
ALL_ALIASES = frozenset(alias for aliases in ALIASES.values() for alias in aliases)


class WebhookBody(RequestBody):
    """The nested form, in which any of the aliases is accepted."""

    also_known = ALL_ALIASES

    enabled = Flag()
    url = Text(max_length=MAX_URL_LENGTH)
    headers = HeadersField(required=False)
    byEvents = Flag(required=False)
    base64 = Flag(required=False)
    events = Distinct(child=EventName(), default=list)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(normalize_aliases(data))


class WrappedWebhook(RequestBody):
    webhook = WebhookBody()


class CreateWebhookBody(WebhookBody):
    """The `webhook` member of a creation, enabled unless it says otherwise."""

    enabled = Flag(default=True)


class CreateWithWebhook(RequestBody):
    webhook = CreateWebhookBody(required=False)


def normalize_aliases(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members with aliases under our names; of several aliases of one member, the first in ALIASES wins."""
    normalized = dict(data)
    for name, aliases in ALIASES.items():
        if alias := next((alias for alias in aliases if alias in data), None):
            normalized[name] = data[alias]
    return normalized


def validate_set(data: Any) -> dict[str, Any]:
    """Return the validated members of a POST /webhook/set body, nested or flat. Raises ValidationError."""
    is_flat = "webhook" not in data and "url" in data
    # v1.x has no member `enabled`: a webhook that is set is enabled
    return validate(WrappedWebhook(data={"webhook": {"enabled": True} | dict(data)} if is_flat else data))["webhook"]


def validate_create(data: Any) -> dict[str, Any] | None:
    """Return the validated webhook of a POST /instance/create body, or None where it has none.

    It is an object or, in v1, a URL with flags at the top level. Raises ValidationError.
    """
    webhook = data.get("webhook")
    if webhook == "" or "webhook" not in data:
        return None  # v1's clients send an empty string where nothing was filled in
    if isinstance(webhook, str):
        flags = {name: data[name] for aliases in ALIASES.values() for name in aliases if name in data}
        flags |= {"events": data["events"]} if "events" in data else {}
        webhook = {"url": webhook} | flags
    return validate(CreateWithWebhook(data={"webhook": webhook}))["webhook"]


def needs_url_check(validated: Mapping[str, Any]) -> bool:
    """Return whether `url` is meant to be used; n8n's node sends `vazio` when it disables a webhook."""
    return bool(validated["enabled"] or "://" in validated["url"])


def check_public_url(url: str) -> None:
    """Raise ApiError for a URL that is malformed, or whose host is not public, unless it is that of an inbox."""
    try:
        check_receiver(url)
    except ValueError as error:
        raise ApiError(str(error)) from None


def note_headers(url: str) -> dict[str, str]:
    """Return the header that says what is missing for a URL to be reached, if its host suggests so."""
    text = "" if inbox_url(url) else ssrf_guard.note(url)
    return {NOTE_HEADER: text} if text else {}


def webhooks_of(instance: Instance) -> SubscriptionQuerySet:
    """Return the webhook endpoints of an instance, oldest first."""
    return Subscription.objects.filter(instance=instance, transport=Subscription.WEBHOOK).order_by("pk")


def require_room(instance: Instance) -> None:
    """Raise ApiError (409) if an instance has as many webhook endpoints as it may. It should be locked."""
    if webhooks_of(instance).count() >= ENDPOINTS:
        raise ApiError(f"An instance may have {ENDPOINTS} webhook endpoints", 409)


def first_webhook(instance: Instance) -> Subscription | None:
    """Return the endpoint that Evolution's routes use, as they know a single one."""
    return webhooks_of(instance).first()


def set_webhook(instance: Instance, validated: Mapping[str, Any]) -> Subscription:
    """Store the first webhook endpoint of an instance that the caller has locked, by Evolution's rules.

    An empty list means all events; a disabled endpoint keeps its URL but no events. Absent members stay unchanged.
    """
    endpoint = webhooks_of(instance).select_for_update().first() or new_endpoint(instance)
    ignored = () if needs_url_check(validated) else ("url",)
    apply_changes(endpoint, {name: value for name, value in validated.items() if name not in ignored})
    endpoint.is_enabled = validated["enabled"]
    endpoint.events = validated["events"] if validated["enabled"] else []
    endpoint.save()
    return endpoint


def new_endpoint(instance: Instance, secret: str = "") -> Subscription:
    """Return an unsaved endpoint without a URL, signed with the given or a generated secret."""
    options = dict.fromkeys(OPTIONS, False) | {"url": ""}
    endpoint = Subscription(instance=instance, transport=Subscription.WEBHOOK, options=options)
    endpoint.keep_secrets(signing=[secret or new_secret()])
    return endpoint


def apply_changes(endpoint: Subscription, validated: Mapping[str, Any]) -> None:
    """Set the options and headers that `validated` contains, and reset the failures when it enables the endpoint.

    The caller saves the endpoint.
    """
    options = {name: validated[name] for name in OPTIONS if name in validated}
    endpoint.options = endpoint.options | options
    if "headers" in validated:
        endpoint.keep_secrets(headers=validated["headers"] or {})
    if validated.get("enabled"):
        endpoint.failing_since, endpoint.disabled_reason = None, ""
