"""Errors of the template and business routes, which have Meta's words and no envelope in Evolution API."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar, TypedDict

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample
from rest_framework.exceptions import APIException
from rest_framework.response import Response

from instances import errors
from instances.api.graph import GraphView
from instances.providers.cloud_api_graph import GraphError
from instances.timestamps import iso


class MetaErrorDetails(TypedDict):
    whatsapp_error: Any
    whatsapp_code: Any
    error_user_title: Any
    error_user_msg: Any
    error_type: str
    error_subcode: int | None
    fbtrace_id: str | None
    context: str
    type: str


class MetaError(TypedDict):
    """The reason for an error of a template or business route: a text, or a list of lists for an invalid body."""

    status: int
    error: str
    message: Any
    details: MetaErrorDetails
    timestamp: str


def meta_error(context: str, text: Any, status: int = 400, graph: dict[str, Any] | None = None) -> MetaError:
    """Return the body of an error; `graph` is the Graph API's own error, if there is one."""
    graph = graph or {}
    text = graph.get("message") or text
    title, message = graph.get("error_user_title") or text, graph.get("error_user_msg") or text
    return {
        "status": status,
        "error": HTTPStatus(status).phrase,
        "message": title,
        "details": {
            "whatsapp_error": message,
            "whatsapp_code": graph.get("code") or "UNKNOWN_ERROR",
            "error_user_title": title,
            "error_user_msg": message,
            "error_type": graph.get("type") or "UNKNOWN",
            "error_subcode": graph.get("error_subcode"),
            "fbtrace_id": graph.get("fbtrace_id"),
            "context": context,
            "type": "whatsapp_api_error",
        },
        "timestamp": iso(timezone.now()),
    }


class MetaView(GraphView):
    """A view whose errors of the request, of the channel and of the Graph API are a `MetaError`."""

    context: ClassVar[str]

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, GraphError):
            body = meta_error(self.context, exc.message, exc.status, exc.error)
            return self._answer(body)
        if isinstance(exc, APIException) and exc.status_code == HTTPStatus.BAD_REQUEST:
            message = errors.error_body(exc)["response"]["message"]
            is_line = isinstance(message, list) and len(message) == 1 and isinstance(message[0], str)
            return self._answer(meta_error(self.context, message[0] if is_line else message))
        return super().handle_exception(exc)

    def _answer(self, body: MetaError) -> Response:
        response = Response(body, status=body["status"])
        response.exception = True
        return response


def example(context: str, text: str = "Invalid parameter") -> OpenApiExample:
    """Return the example of an error for the OpenAPI document."""
    graph = {"message": text, "code": 100, "type": "OAuthException", "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn_Bam"}
    return OpenApiExample("refused", meta_error(context, text, graph=graph), response_only=True, status_codes=["400"])
