"""Request bodies of the template and business routes, with the rules of Evolution API's schemas."""

from __future__ import annotations

from rest_framework import serializers

from instances.api.fields import MAX_NUMBER_LENGTH, Flag, Text
from instances.api.message_fields import Components, OneOf
from instances.api.schema_fields import JsonNumber
from instances.api.serializers import RequestBody

CATEGORIES = ("AUTHENTICATION", "MARKETING", "UTILITY")


class CreateTemplateBody(RequestBody):
    """The body of POST /template/create."""

    name = Text(max_length=512)
    category = OneOf(CATEGORIES)
    allowCategoryChange = Flag(required=False)
    language = Text(max_length=32)
    components = Components()
    webhookUrl = Text(required=False, max_length=2048)


class EditTemplateBody(RequestBody):
    templateId = Text(max_length=64)
    category = OneOf(CATEGORIES, required=False)
    allowCategoryChange = Flag(required=False)
    ttl = JsonNumber(required=False)
    components = Components(required=False)

    def validate_templateId(self, value: str) -> str:
        # it is a part of a path of the Graph API
        if not (value.isascii() and value.isdigit()):
            raise serializers.ValidationError('templateId does not match pattern "^\\\\d+$"')
        return value


class DeleteTemplateBody(RequestBody):
    name = Text(max_length=512)
    hsmId = Text(required=False, max_length=64)


class CatalogBody(RequestBody):
    also_known = ("cursor",)

    number = Text(required=False, max_length=MAX_NUMBER_LENGTH)
    limit = JsonNumber(required=False)


class CollectionsBody(CatalogBody):
    limit = JsonNumber(required=False, maximum=20)
