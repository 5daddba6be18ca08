"""Response bodies with Evolution API's member names; these types are the components of the OpenAPI document."""

from __future__ import annotations

import logging
from typing import Any, TypedDict, cast

from django.conf import settings

from instances.access.access import Access
from instances.access.rights import MANAGE
from instances.api.transports import declared_transports
from instances.crypto import MASK, UnreadableSecret
from instances.models import Instance, Proxy, Subscription
from instances.outbound.webhook_urls import masked_url
from instances.timestamps import iso

logger = logging.getLogger(__name__)


class ErrorMessage(TypedDict):
    message: Any


class Error(TypedDict):
    """The reason for an error: `message` is a text for 401 and 500, and a list for every other status."""

    status: int
    error: str
    response: ErrorMessage


class Done(TypedDict):
    status: str
    error: bool
    response: ErrorMessage


def done(message: str) -> Done:
    return {"status": "SUCCESS", "error": False, "response": {"message": message}}


class GreetingOptions(TypedDict, total=False):
    manager: str
    whatsappWebVersion: str


class Greeting(GreetingOptions):
    status: int
    message: str
    version: str
    clientName: str
    documentation: str


class Facebook(TypedDict, total=False):
    facebookAppId: str
    facebookConfigId: str
    facebookUserToken: str


class Valid(Facebook):
    status: int
    message: str


class InstanceState(TypedDict):
    instanceName: str
    state: str


class ConnectionStateAnswer(TypedDict):
    instance: InstanceState


class Identity(TypedDict):
    instanceName: str
    instanceId: str
    integration: str
    webhookWaBusiness: str | None
    accessTokenWaBusiness: str
    status: str


def identity(instance: Instance, is_for_operator: bool) -> Identity:
    """Return the members that accompany an instance's token in a response.

    The verify token of a platform's webhook, such as Meta's, is the operator's, and masked for others.
    """
    path = instance.provider.callback_path
    verify_token = instance.provider.verify_token if is_for_operator else MASK
    return {
        "instanceName": instance.name,
        "instanceId": str(instance.pk),
        "integration": instance.integration,
        "webhookWaBusiness": f"{settings.SERVER_URL}{path}" if path else None,
        "accessTokenWaBusiness": verify_token if path else "",
        "status": instance.connection_state,
    }


class Rotated(TypedDict):
    hash: str
    instance: Identity


class Created(TypedDict):
    """`hash` is the instance's token."""

    instance: Identity
    hash: str
    webhook: dict[str, Any]
    websocket: dict[str, Any]
    rabbitmq: dict[str, Any]
    nats: dict[str, Any]
    sqs: dict[str, Any]
    settings: dict[str, Any]


class Minted(TypedDict):
    token: str
    expiresAt: str
    scopes: list[str]


class ChatwootRow(TypedDict):
    """The response of /chatwoot/find."""

    enabled: bool
    url: str
    accountId: str
    token: str
    signMsg: bool
    nameInbox: str
    webhook_url: str


# Rows


class SubscriptionRow(TypedDict):
    """The response of /websocket/set, /websocket/find and the RabbitMQ routes."""

    id: str
    enabled: bool
    events: list[str]
    createdAt: str
    updatedAt: str
    instanceId: str


def subscription_row(subscription: Subscription) -> SubscriptionRow:
    return {
        "id": str(subscription.pk),
        "enabled": subscription.is_enabled,
        "events": subscription.shown_events,
        "createdAt": iso(subscription.created_at),
        "updatedAt": iso(subscription.updated_at),
        "instanceId": str(subscription.instance_id),
    }


class WebhookRow(TypedDict):
    """The response of /webhook/set and /webhook/find.

    For keys without the scope `manage`, values of headers and of the URL's query are masked.
    """

    id: str
    url: str
    headers: dict[str, str] | None
    enabled: bool
    events: list[str]
    webhookByEvents: bool
    webhookBase64: bool
    createdAt: str
    updatedAt: str
    instanceId: str


def webhook_row(endpoint: Subscription, access: Access) -> WebhookRow:
    return {
        "id": str(endpoint.pk),
        "url": shown_url(endpoint.options["url"], access),
        "headers": shown_headers(endpoint, access),
        "enabled": endpoint.is_enabled,
        "events": endpoint.shown_events,
        "webhookByEvents": endpoint.options.get("byEvents", False),
        "webhookBase64": endpoint.options.get("base64", False),
        "createdAt": iso(endpoint.created_at),
        "updatedAt": iso(endpoint.updated_at),
        "instanceId": str(endpoint.instance_id),
    }


def shown_headers(endpoint: Subscription, access: Access) -> dict[str, str] | None:
    """Return the headers of an endpoint, their values masked for keys without the scope `manage`."""
    headers: dict[str, str] | None = endpoint.shown_secret("headers")
    return headers if headers is None or access.may(MANAGE) else dict.fromkeys(headers, MASK)


def shown_url(url: str, access: Access) -> str:
    """Return the URL of an endpoint, its path and query masked for keys without the scope `manage`."""
    return url if access.may(MANAGE) else masked_url(url)


class ProxyRow(TypedDict):
    """The response of /proxy/find; the password is masked for keys without the scope `manage`."""

    id: str
    enabled: bool
    host: str
    port: str
    protocol: str
    username: str
    password: str
    createdAt: str
    updatedAt: str
    instanceId: str


def shown_proxy(instance: Instance, access: Access) -> ProxyRow | None:
    """Return the proxy of an instance, or None where none was ever set."""
    proxy: Proxy | None = getattr(instance, "proxy", None)
    if proxy is None:
        return None
    return {
        "id": str(proxy.pk),
        "enabled": proxy.is_enabled,
        "host": proxy.host,
        "port": proxy.port,
        "protocol": proxy.protocol,
        "username": proxy.username,
        "password": _proxy_password(proxy, access),
        "createdAt": iso(proxy.created_at),
        "updatedAt": iso(proxy.updated_at),
        "instanceId": str(proxy.instance_id),
    }


def _proxy_password(proxy: Proxy, access: Access) -> str:
    try:
        password = proxy.password.reveal()
    except UnreadableSecret as error:
        logger.error("The proxy's password of instance %s is left out of responses. %s", proxy.instance_id, error)
        return MASK
    return password if access.may(MANAGE) or not password else MASK


class InstanceRow(TypedDict):
    """An item of the fetchInstances response.

    `token` is null for keys without the scope `manage`, for API keys where it opens more than they do, and where it
    cannot be decrypted.
    """

    id: str
    name: str
    connectionStatus: str
    ownerJid: str | None
    profileName: str | None
    profilePicUrl: str | None
    integration: str
    number: str | None
    businessId: str | None
    token: str | None
    clientName: str
    disconnectionReasonCode: int | None
    disconnectionObject: str | None
    disconnectionAt: str | None
    createdAt: str
    updatedAt: str
    Chatwoot: dict[str, Any] | None
    Proxy: ProxyRow | None
    Rabbitmq: SubscriptionRow | None
    Nats: dict[str, Any] | None
    Sqs: dict[str, Any] | None
    Websocket: SubscriptionRow | None
    Setting: dict[str, Any] | None
    _count: dict[str, int]


def instance_row(instance: Instance, access: Access, beyond: frozenset[str]) -> InstanceRow:
    """Return the fetchInstances item of an instance with prefetched `subscriptions` and the counts of `counted()`.

    `beyond`: the access's `digests_beyond`.
    """
    may_read_token = access.may(MANAGE) and instance.token_digest not in beyond
    oldest_first = sorted(instance.subscriptions.all(), key=lambda subscription: subscription.pk)
    endpoints = {
        name.capitalize(): next((subscription_row(row) for row in oldest_first if row.transport == name), None)
        for name in (Subscription.WEBSOCKET, *(transport.name for transport in declared_transports()))
    }
    disconnection = instance.disconnection
    row: InstanceRow = {
        "id": str(instance.pk),
        "name": instance.name,
        "connectionStatus": instance.connection_state,
        "ownerJid": instance.owner_jid,
        "profileName": instance.profile_name,
        "profilePicUrl": instance.profile_pic_url,
        "integration": instance.integration,
        "number": instance.number,
        "businessId": instance.business_id,
        "token": _token(instance) if may_read_token else None,
        "clientName": settings.DATABASE_CONNECTION_CLIENT_NAME,
        "disconnectionReasonCode": disconnection["disconnectionReasonCode"],
        "disconnectionObject": disconnection["disconnectionObject"],
        "disconnectionAt": disconnection["disconnectionAt"],
        "createdAt": iso(instance.created_at),
        "updatedAt": iso(instance.updated_at),
        "Chatwoot": None,
        "Proxy": shown_proxy(instance, access),
        "Rabbitmq": None,
        "Nats": None,
        "Sqs": None,
        "Websocket": None,
        "Setting": _setting_row(instance, access),
        "_count": {name: getattr(instance, f"{name.lower()}_count") for name in ("Message", "Contact", "Chat")},
    }
    return cast(InstanceRow, row | endpoints)  # also of transports that Evolution API does not have


def _token(instance: Instance) -> str | None:
    try:
        return instance.token.reveal()
    except UnreadableSecret as error:
        logger.error("The token of instance %s is left out of responses. %s", instance.name, error)
        return None


def shown_settings(instance: Instance, access: Access) -> dict[str, Any] | None:
    """Return the settings of an instance, or None where none were ever set."""
    if not instance.settings:
        return None
    secrets = {} if access.may(MANAGE) or not instance.settings.get("wavoipToken") else {"wavoipToken": MASK}
    return instance.settings | secrets


def _setting_row(instance: Instance, access: Access) -> dict[str, Any] | None:
    if (shown := shown_settings(instance, access)) is None:
        return None
    dates = {"createdAt": iso(instance.created_at), "updatedAt": iso(instance.updated_at)}
    return {"id": str(instance.pk)} | shown | dates | {"instanceId": str(instance.pk)}
