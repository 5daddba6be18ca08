"""Routes of an instance's proxy, which is stored for the engine that drives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from django.db import transaction
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.rights import MANAGE, READ
from instances.api.examples import example_request, example_response
from instances.api.fields import Choice, Flag, HostName, Port, ProxyProtocol, Text
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import ProxyRow, shown_proxy
from instances.api.serializers import RequestBody, validate
from instances.crypto import MASK
from instances.integrations import NOTE_HEADER
from instances.models import Proxy

NOTE = (
    "This server stores the proxy and connects to nothing through it: an engine of yours that drives the instance "
    "finds it by GET /proxy/find and /instance/fetchInstances"
)


class ProxyBody(RequestBody):
    enabled = Flag(only=True)
    host = HostName(max_length=255)
    port = Port()
    protocol = Choice(ProxyProtocol)
    username = Text(required=False, allow_null=True, allow_blank=True, max_length=255)
    password = Text(required=False, allow_null=True, allow_blank=True, max_length=255)


class DisabledProxyBody(RequestBody):
    """A proxy that is switched off: Evolution API requires some members of it, and forgets them all."""

    enabled = Flag(only=False)
    host = Text(allow_blank=True)
    port = Text(allow_blank=True)
    protocol = Text(allow_blank=True)
    username = Text(required=False, allow_null=True, allow_blank=True)
    password = Text(required=False, allow_null=True, allow_blank=True)


class InstanceProxy(TypedDict):
    instanceName: str
    proxy: dict[str, Any]


class ProxyAnswer(TypedDict):
    proxy: InstanceProxy


_PROXY = {
    "enabled": True,
    "host": "proxy.example.com",
    "port": "8080",
    "protocol": "http",
    "username": "ana",
    "password": "a-password",
}
_ROW = {
    "id": "1",
    **_PROXY,
    "createdAt": "2026-11-29T12:00:00.000Z",
    "updatedAt": "2026-11-29T12:00:00.000Z",
    "instanceId": "7b1f6a0e-2c56-4a5e-9f0d-0d7d3f1c9a11",
}


def proxy_of(created: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the columns of the proxy in a validated POST /instance/create body, which needs three of its members."""
    if not all(created.get(f"proxy{member}") for member in ("Host", "Port", "Protocol")):
        return None
    return {
        column: created.get(f"proxy{column.capitalize()}") or ""
        for column in ("host", "port", "protocol", "username", "password")
    }


def _columns(data: Any) -> dict[str, str] | None:
    """Return the columns of the proxy in a POST /proxy/set body, None for a disabled one. Raises ValidationError."""
    if data.get("enabled") is False:
        validate(DisabledProxyBody(data=data))
        return None
    validated = validate(ProxyBody(data=data))
    columns = {name: validated.get(name) or "" for name in ("host", "port", "protocol", "username", "password")}
    return {name: value for name, value in columns.items() if (name, value) != ("password", MASK)}


class SetProxy(APIView):
    scope = MANAGE

    @extend_schema(
        request=PolymorphicProxySerializer(
            "ProxySettings", [ProxyBody, DisabledProxyBody], resource_type_field_name=None, many=False
        ),
        responses={201: ProxyAnswer},
        examples=[
            example_request(_PROXY),
            example_response({"proxy": {"instanceName": "loja", "proxy": _PROXY | {"password": MASK}}}, 201),
        ],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Set the proxy, or forget it by `"enabled": false`.

        The response masks the password; a password of eight asterisks leaves the stored one as it is. The header
        `X-Evoapi-Note` says that this server uses no proxy: an engine does.
        """
        values = _columns(request.data)
        with transaction.atomic():
            proxy = Proxy.set(lock_instance(request), values)
        shown = {
            "enabled": proxy.is_enabled,
            "host": proxy.host,
            "port": proxy.port,
            "protocol": proxy.protocol,
            "username": proxy.username,
            "password": MASK if values and values.get("password", MASK) else "",
        }
        answer = {"proxy": {"instanceName": name, "proxy": shown}}
        return Response(answer, status=201, headers={NOTE_HEADER: NOTE})


class FindProxy(APIView):
    scope = READ

    @extend_schema(responses={200: ProxyRow | None}, examples=[example_response(_ROW)])
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the proxy, or null where none was ever set."""
        return Response(shown_proxy(request.instance, request.auth))
