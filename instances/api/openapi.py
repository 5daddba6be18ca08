"""The OpenAPI 3.0 document of our routes, beyond what drf-spectacular generates by itself.

Serializers describe the requests, the typed dicts in `responses` the responses:
https://spec.openapis.org/oas/v3.0.3
"""

from __future__ import annotations

import re
from functools import cache
from inspect import cleandoc
from typing import Any, get_args, get_origin, is_typeddict

import orjson
from django.urls import URLPattern
from drf_spectacular import drainage
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerFieldExtension
from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, build_array_type, resolve_type_hint
from rest_framework.serializers import CharField, Field, IntegerField, ListField

from instances.api.responses import Error

#: Descriptions of error responses by status: of every route, of routes that take a body or a query, of guarded ones.
_ALWAYS = {429: "Too many wrong keys from this address.", 503: "The database does not answer; try again."}
_REFUSED = {400: "The request is not valid; `message` has a line for each error.", 413: "The body is too large."}
_KEY = {401: "The key is missing, wrong, or has no access to this.", 403: "The key lacks the scope for this."}


class Schema(AutoSchema):
    """A route with JSON bodies, and errors in Evolution API's shape."""

    def get_operation_id(self) -> str:
        """Return the view's name without "View", followed by the method where the view has several."""
        name = type(self.view).__name__.removesuffix("View")
        return name if len(self.view.allowed_methods) == 2 else f"{name}_{self.method.lower()}"

    def get_description(self) -> str:  # type: ignore[override]
        """Return the docstring of the method; that of the view class is for readers of the code."""
        return cleandoc(getattr(self.view, self.method.lower()).__doc__ or "")

    def map_parsers(self) -> list[str]:
        return ["application/json"]

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        for status, description in self._errors().items():
            error = self._get_response_for_code(Error, str(status), direction=direction)
            bodies.setdefault(str(status), error | {"description": description})
        return dict(sorted(bodies.items()))

    def _errors(self) -> dict[int, str]:
        # a stream that cannot begin ends, for its client to come back: an EventSource gives up after an error
        errors = {} if getattr(self.view, "is_stream", False) else dict(_ALWAYS)
        if self.view.get_authenticators():
            errors |= _KEY
        if "{" in self.path:
            errors[404] = "It does not exist. Keys that are not for all instances get 401 for an unknown instance."
        if self.method in ("POST", "PATCH") or self.get_override_parameters():
            errors |= _REFUSED
        return errors | getattr(self.view, "errors", {}).get(self.method, {})

    def _get_response_for_code(self, serializer: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Accept a TypedDict in place of a serializer, and register it as a named component."""
        if is_typeddict(serializer):
            serializer = self._component(serializer)
        elif get_origin(serializer) is list and is_typeddict(row := get_args(serializer)[0]):
            serializer = build_array_type(self._component(row))
        openapi_view: dict[str, Any] = super()._get_response_for_code(serializer, *args, **kwargs)
        openapi_view["description"] = openapi_view.get("description") or "Done."
        return openapi_view

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> dict[str, Any]:
        """Say of the bodies of our own routes that they take no other members."""
        schema: dict[str, Any] = super()._map_basic_serializer(serializer, direction)
        if getattr(serializer, "is_strict", False) and not serializer.also_known:
            schema["additionalProperties"] = False
        return schema

    def _insert_field_validators(self, field: Any, schema: dict[str, Any]) -> None:
        """Drop the alternative of an empty text where the field's own pattern has it: `oneOf` takes no text of both."""
        super()._insert_field_validators(field, schema)
        match schema:
            case {"oneOf": [{"pattern": str(pattern), **more} as inner, {"maxLength": 0}]}:
                if "minLength" not in more and re.search(pattern, ""):
                    del schema["oneOf"]
                    schema |= inner

    def _component(self, shape: Any) -> dict[str, Any]:
        component = ResolvedComponent(
            name=shape.__name__, type=ResolvedComponent.SCHEMA, schema=resolve_type_hint(shape), object=shape
        )
        self.registry.register_on_missing(component)
        return component.ref


class EndpointsWithIngress(EndpointEnumerator):
    """Add the ingress endpoints, which are not views of Django REST framework."""

    def _get_api_endpoints(self, patterns: Any, prefix: str) -> Any:
        known = self.patterns if patterns is None else patterns  # an include() may be empty
        return super()._get_api_endpoints([_described(pattern) for pattern in known or ()], prefix)


def _described(pattern: Any) -> Any:
    openapi_view = getattr(getattr(pattern, "callback", None), "openapi_view", None)
    return URLPattern(pattern.pattern, openapi_view.as_view()) if openapi_view else pattern


class Generator(SchemaGenerator):
    endpoint_inspector_cls = EndpointsWithIngress


@cache
def document() -> bytes:
    """Return the document as JSON; cached, because to generate it takes a fifth of a second."""
    # for its warnings drf-spectacular looks for the file of each view and serializer: so many short calls of the system
    # that the thread keeps the GIL, as other threads get it after 5 ms without one
    drainage._get_source_location = lambda of: (None, None)  # type: ignore[assignment]
    return orjson.dumps(Generator().get_schema(request=None, public=True))


class DescribedField(OpenApiSerializerFieldExtension):
    """Describe a field of ours by its `schema()`, added to what drf-spectacular knows of its base class."""

    target_class = Field
    match_subclasses = True

    @classmethod
    def _matches(cls, target: Any) -> bool:
        return hasattr(target, "schema")

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        known: dict[str, Any] = {}
        if isinstance(self.target, CharField | ListField | IntegerField):
            known = auto_schema._map_serializer_field(self.target, direction, bypass_extensions=True)
        return known | self.target.schema()


class ApiKeyScheme(OpenApiAuthenticationExtension):
    target_class = "instances.access.rest.ApiKeyAuthentication"
    name = "apikey"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "apikey",
            "description": "The global key, an API key made in the admin, or an instance's own token.",
        }
