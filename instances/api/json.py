"""Parser, renderer and content negotiation for JSON alone."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.parsers import BaseParser, FormParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from instances import json_body


class JsonParser(BaseParser):
    """Parse a JSON object; an empty body is an empty object, as clients send DELETE and POST without a body."""

    media_type = "application/json"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        body = stream.read()
        try:
            value = json_body.load(body) if body.strip() else {}
        except json_body.NotJson as error:
            raise ParseError(str(error)) from None
        if not isinstance(value, dict):
            raise ParseError("The body must be a JSON object")
        return value


class FormOrMisnamedJson(FormParser):
    """Parse a form; refuse JSON that is called one, as `curl -d` does unless it is given a Content-Type."""

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        body = stream.read()
        if body.lstrip()[:1] in (b"{", b"["):
            raise ParseError("The body is JSON, and its Content-Type says that it is a form: send application/json")
        return super().parse(BytesIO(body), media_type, parser_context)


class AlwaysJson(BaseContentNegotiation):
    """Respond with JSON whatever `Accept` says, as Evolution API does and its clients expect."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return DefaultContentNegotiation().select_parser(request, parsers)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class JsonRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        return json_body.dumps(data, default=str)
