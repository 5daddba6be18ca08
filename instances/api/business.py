"""Routes of a business's catalogue, which only a phone can ask for; their errors are worded like those of templates."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.response import Response

from instances.access.rights import READ
from instances.api.meta_errors import MetaError, MetaView, example
from instances.api.refusals import REFUSED
from instances.api.request import InstanceRequest
from instances.api.serializers import RequestBody, validate
from instances.api.template_bodies import CatalogBody, CollectionsBody
from instances.api.views import unavailable


class CatalogView(MetaView):
    """A view of what a business sells."""

    scope = READ
    body: ClassVar[type[RequestBody]]

    def refuse(self, request: InstanceRequest) -> Response:
        validate(self.body(data=request.data))
        raise unavailable(request.instance)


def _described(context: str, does: str, body: type[RequestBody]) -> Any:
    def post(self: CatalogView, request: InstanceRequest, name: str) -> Response:
        return self.refuse(request)

    post.__doc__ = f"{does}\n\n{REFUSED}"
    examples = [
        OpenApiExample("valid", {"number": "5511988887777", "limit": 10}, request_only=True),
        example(context, "Method not available on WhatsApp Business API"),
    ]
    return extend_schema(request=body, responses={400: MetaError}, examples=examples)(post)


class GetCatalog(CatalogView):
    context = "business_catalog"
    body = CatalogBody
    post = _described(context, "Find the products of a business.", body)


class GetCollections(CatalogView):
    context = "business_collections"
    body = CollectionsBody
    post = _described(context, "Find the collections of a business.", body)


VIEWS = {"business/getCatalog": GetCatalog, "business/getCollections": GetCollections}
