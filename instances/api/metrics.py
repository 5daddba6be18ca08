"""GET /metrics: the instances and their states, for Prometheus.

The format is 0.0.4 of https://prometheus.io/docs/instrumenting/exposition_formats/, the names are Evolution API's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from ipaddress import ip_network

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request

from instances.access.client_address import is_within
from instances.access.rate_limit import failed_authentications
from instances.access.rest import address_of
from instances.api.license import PublicView
from instances.api.responses import Error
from instances.crypto import is_same
from instances.errors import NotFound
from instances.models import ConnectionState, Instance

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Who may read the metrics where neither addresses nor a password are set.
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
#: Instances that are read from the database, and written, in one piece.
BATCH = 500


class Metrics(PublicView):
    @extend_schema(
        responses={(200, "text/plain"): str, (401, "text/plain"): str, (403, "text/plain"): str, 404: Error},
        examples=[
            OpenApiExample(
                "two",
                "# TYPE evolution_instances_total gauge\nevolution_instances_total 2\n",
                media_type="text/plain",
                response_only=True,
                status_codes=["200"],
            )
        ],
    )
    def get(self, request: Request) -> HttpResponse:
        """Return the instances and their states in Prometheus' text format.

        404 unless PROMETHEUS_METRICS is true. METRICS_ALLOWED_IPS are the clients that may read them, and with
        METRICS_AUTH_REQUIRED they need METRICS_USER and METRICS_PASSWORD; without either of both, they are for clients
        on this machine alone.
        """
        if not settings.PROMETHEUS_METRICS:
            raise NotFound(["Metrics are switched off: PROMETHEUS_METRICS=true switches them on"])
        refusal = _refusal(request)
        return refusal or HttpResponse(b"".join(_lines()), content_type=CONTENT_TYPE)


def _refusal(request: Request) -> HttpResponse | None:
    """Return the response to a client that may not read the metrics."""
    address = address_of(request)
    allowed = settings.METRICS_ALLOWED_IPS or (() if settings.METRICS_AUTH_REQUIRED else LOOPBACK)
    if allowed and not is_within(address, allowed):
        return _plain_text(403, "Forbidden: IP not allowed")
    if not settings.METRICS_AUTH_REQUIRED:
        return None
    if not (settings.METRICS_USER and settings.METRICS_PASSWORD):
        return _plain_text(500, "Metrics authentication not configured")
    presented = _presented(request.headers.get("Authorization", ""))
    if presented is None:
        return _unauthorized("Authentication required")
    # both are compared, so that the time does not say which is wrong
    is_user, is_password = (
        is_same(presented[0], settings.METRICS_USER),
        is_same(presented[1], settings.METRICS_PASSWORD),
    )
    if is_user and is_password:
        return None
    if not failed_authentications.allows(address):
        return _plain_text(429, "Too many wrong keys from this address; try again later")
    return _unauthorized("Invalid credentials")


def _presented(header: str) -> tuple[str, str] | None:
    """Return the user and the password of an Authorization header; None if it has none (RFC 7617)."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return user, password


def _unauthorized(text: str) -> HttpResponse:
    response = _plain_text(401, text)
    response["WWW-Authenticate"] = 'Basic realm="Evolution API Metrics"'
    return response


def _plain_text(status: int, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")


def _lines() -> Iterator[bytes]:
    """Yield the metrics in pieces, each made of a batch of instances."""
    environment = {
        "version": settings.EVOLUTION_VERSION,
        "clientName": settings.DATABASE_CONNECTION_CLIENT_NAME,
        "serverUrl": settings.SERVER_URL,
    }
    yield _head("evolution_environment_info", "Environment information")
    yield f"evolution_environment_info{_labels(**environment)} 1\n".encode()
    ups, states, total = [], [], 0
    for batch in _batches():
        total += len(batch)
        ups.append("".join(_up(*row) for row in batch).encode())
        states.append("".join(_state(*row) for row in batch).encode())
    yield _head("evolution_instances_total", "Total number of instances")
    yield f"evolution_instances_total {total}\n".encode()
    yield _head("evolution_instance_up", "1 if instance state is open, else 0")
    yield from ups
    yield _head("evolution_instance_state", "Instance state as a labelled metric")
    yield from states


def _batches() -> Iterator[list[tuple[str, str, str]]]:
    """Yield the names, integrations and states of all instances."""
    rows = Instance.objects.order_by("name").values_list("name", "integration", "connection_state")
    batch = list(rows[:BATCH])
    while batch:
        yield batch
        batch = list(rows.filter(name__gt=batch[-1][0])[:BATCH])


def _head(metric: str, text: str) -> bytes:
    return f"# HELP {metric} {text}\n# TYPE {metric} gauge\n".encode()


def _up(name: str, integration: str, state: str) -> str:
    is_up = int(state == ConnectionState.OPEN)
    return f"evolution_instance_up{_labels(instance=name, integration=integration)} {is_up}\n"


def _state(name: str, integration: str, state: str) -> str:
    return f"evolution_instance_state{_labels(instance=name, integration=integration, state=state)} 1\n"


def _labels(**labels: str) -> str:
    escaped = (f'{name}="{_escape(value)}"' for name, value in labels.items())
    return "{" + ",".join(escaped) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
