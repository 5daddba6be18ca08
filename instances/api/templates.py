"""Routes of message templates, which Meta has: each is asked for with the instance's own token and business id."""

from __future__ import annotations

from typing import Any, TypedDict

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.response import Response

from instances.access.rights import MANAGE, READ
from instances.api.graph import ask
from instances.api.ignored import note_ignored
from instances.api.meta_errors import MetaError, MetaView, example
from instances.api.request import InstanceRequest
from instances.api.serializers import validate
from instances.api.template_bodies import CreateTemplateBody, DeleteTemplateBody, EditTemplateBody
from instances.errors import ApiError, NotFound
from instances.models import Instance, Template
from instances.providers.cloud_api_graph import GraphError
from instances.timestamps import iso

_ERRORS = {400: MetaError, 502: MetaError, 504: MetaError}

#: Members of an edit, with Meta's names of them.
_EDITABLE = {
    "category": "category",
    "allowCategoryChange": "allow_category_change",
    "ttl": "time_to_live",
    "components": "components",
}

_COMPONENTS = [{"type": "BODY", "text": "Hello {{1}}", "example": {"body_text": [["Ana"]]}}]
_CREATE = {"name": "hello", "category": "UTILITY", "language": "en_US", "components": _COMPONENTS}
_EDIT = {"templateId": "594425479261596", "category": "MARKETING", "components": _COMPONENTS}
_STATE = {"id": "594425479261596", "status": "PENDING", "category": "UTILITY"}
_SUCCESS = OpenApiExample("done", {"success": True}, response_only=True, status_codes=["200"])


#: Characters of the column.
MAX_TEMPLATE_ID = 255


class TemplateRow(TypedDict):
    """A template that was created; `template` is Meta's answer."""

    id: str
    templateId: str
    name: str
    template: dict[str, Any]
    webhookUrl: str | None
    createdAt: str
    updatedAt: str
    instanceId: str


def template_row(template: Template) -> TemplateRow:
    return {
        "id": str(template.pk),
        "templateId": template.template_id,
        "name": template.name,
        "template": template.state,
        "webhookUrl": template.webhook_url,
        "createdAt": iso(template.created_at),
        "updatedAt": iso(template.updated_at),
        "instanceId": str(template.instance_id),
    }


_ROW: TemplateRow = {
    "id": "1",
    "templateId": _STATE["id"],
    "name": "hello",
    "template": _STATE,
    "webhookUrl": None,
    "createdAt": "2026-01-02T03:04:05.678Z",
    "updatedAt": "2026-01-02T03:04:05.678Z",
    "instanceId": "7b1f6a0e-2c56-4a5e-9f0d-0d7d3f1c9a11",
}


class TemplateView(MetaView):
    needs_connection = False

    def graph_of(self, instance: Instance) -> Any:
        if instance.provider.no_templates:
            raise ApiError(instance.provider.no_templates)
        return super().graph_of(instance)


class CreateTemplate(TemplateView):
    scope = MANAGE
    context = "template_creation"

    @extend_schema(
        request=CreateTemplateBody,
        responses={201: TemplateRow, **_ERRORS},
        examples=[
            OpenApiExample("valid", _CREATE, request_only=True),
            OpenApiExample("created", _ROW, response_only=True, status_codes=["201"]),
            example(context),
        ],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Create a message template at Meta, for the instance's business account.

        `webhookUrl` is stored, and nothing is posted there: subscribe to `business.update` instead.
        """
        body = validate(CreateTemplateBody(data=request.data))
        if "webhookUrl" in body:
            note_ignored(["webhookUrl"])
        state = ask(self.graph_of(request.instance).create_template(request.instance, _graph_template(body)))
        if not isinstance(state.get("id"), str) or not 0 < len(state["id"]) <= MAX_TEMPLATE_ID:
            raise GraphError("The Graph API answered without the id of the template", 502)
        try:
            with transaction.atomic():
                template = Template.store(request.instance, body["name"], state, body.get("webhookUrl"))
        except Instance.DoesNotExist:
            raise NotFound(f'The "{name}" instance does not exist') from None
        return Response(template_row(template), status=201)


def _graph_template(body: dict[str, Any]) -> dict[str, Any]:
    change = {"allow_category_change": body["allowCategoryChange"]} if "allowCategoryChange" in body else {}
    return {name: body[name] for name in ("name", "category", "language", "components")} | change


class EditTemplate(TemplateView):
    scope = MANAGE
    context = "template_edit"

    @extend_schema(
        request=EditTemplateBody,
        responses={200: OpenApiTypes.OBJECT, **_ERRORS},
        examples=[OpenApiExample("valid", _EDIT, request_only=True), _SUCCESS, example(context)],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Edit a message template at Meta, and return Meta's answer."""
        body = validate(EditTemplateBody(data=request.data))
        changes = {theirs: body[ours] for ours, theirs in _EDITABLE.items() if ours in body}
        answer = ask(self.graph_of(request.instance).edit_template(request.instance, body["templateId"], changes))
        with transaction.atomic():
            Template.record_edit(request.instance, body["templateId"], body.get("category"))
        return Response(answer)


class DeleteTemplate(TemplateView):
    scope = MANAGE
    context = "template_delete"

    @extend_schema(
        request=DeleteTemplateBody,
        responses={200: OpenApiTypes.OBJECT, **_ERRORS},
        examples=[OpenApiExample("valid", {"name": "hello"}, request_only=True), _SUCCESS, example(context)],
    )
    def delete(self, request: InstanceRequest, name: str) -> Response:
        """Delete the message templates of a name at Meta, in all languages, or the one of them with an id.

        The body is a JSON object with `name` and, for one alone, its id as `hsmId`.
        """
        body = validate(DeleteTemplateBody(data=request.data))
        hsm_id = body.get("hsmId")
        answer = ask(self.graph_of(request.instance).delete_template(request.instance, body["name"], hsm_id))
        Template.forget(request.instance, body["name"], hsm_id)
        return Response(answer)


class FindTemplates(TemplateView):
    scope = READ
    context = "template_find"

    @extend_schema(
        responses={200: {"type": "array", "items": {"type": "object"}}, **_ERRORS},
        examples=[
            OpenApiExample("found", [_STATE | {"name": "hello"}], response_only=True, status_codes=["200"]),
            example(context),
        ],
    )
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the message templates of the instance's business account, as Meta has them, from all pages."""
        return Response(ask(self.graph_of(request.instance).templates(request.instance)))


VIEWS = {
    "template/create": CreateTemplate,
    "template/edit": EditTemplate,
    "template/delete": DeleteTemplate,
    "template/find": FindTemplates,
}
