"""Routes that only WhatsApp Web can serve: the request is checked, then refused in Evolution API's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.response import Response

from instances import errors
from instances.api.request import InstanceRequest
from instances.api.serializers import RequestBody, validate
from instances.api.views import ChannelView, unavailable

REFUSED = "No channel of this server can do this: a valid request is answered 400, in Evolution API's words."

#: The example of a refusal in the OpenAPI document.
EXAMPLE = OpenApiExample(
    "refused",
    errors.body(400, ["Method not available on WhatsApp Business API"]),
    response_only=True,
    status_codes=["400"],
)


@dataclass(frozen=True)
class Refusal:
    """A route that is refused once its request is valid."""

    #: The name of its view, and of its operation in the OpenAPI document.
    name: str
    method: str
    #: The path before the instance's name.
    path: str
    scope: str
    #: The first sentence of its description: the thing that it does on WhatsApp Web.
    does: str
    body: type[RequestBody] | None = None
    #: A valid body.
    example: dict[str, Any] | None = None
    parameters: tuple[OpenApiParameter, ...] = ()


class RefusedView(ChannelView):
    """A view whose channel cannot do it: subclasses check the request."""

    body: ClassVar[type[RequestBody] | None] = None

    def check(self, request: InstanceRequest) -> None:
        """Raise ValidationError for an invalid request."""
        if self.body is not None:
            validate(self.body(data=request.data))

    def refuse(self, request: InstanceRequest) -> Response:
        """Check a request, and refuse it."""
        self.check(request)
        raise unavailable(request.instance)


def refusal_view(refusal: Refusal, base: type[RefusedView] = RefusedView) -> type[RefusedView]:
    """Return the view of a route that is refused."""

    def handle(self: RefusedView, request: InstanceRequest, name: str, **kwargs: Any) -> Response:
        return self.refuse(request)

    handle.__doc__ = f"{refusal.does}\n\n{REFUSED}"
    examples = [EXAMPLE]
    if refusal.example is not None:
        examples.append(OpenApiExample("valid", refusal.example, request_only=True))
    described = extend_schema(
        request=_request(refusal), responses={}, parameters=list(refusal.parameters), examples=examples
    )(handle)
    members: dict[str, Any] = {"scope": refusal.scope, "body": refusal.body, refusal.method.lower(): described}
    members["errors"] = {refusal.method: {400: "The request is not valid, or the channel cannot do this."}}
    return type(refusal.name, (base,), members)


def _request(refusal: Refusal) -> Any:
    """Return the body for the OpenAPI document: one of any members where Evolution API checks none."""
    if refusal.example is None:
        return None
    return refusal.body or OpenApiTypes.OBJECT
