"""Routes of an instance's settings, which are stored for the engine that drives it."""

from __future__ import annotations

from typing import Any, TypedDict

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.rights import MANAGE, READ
from instances.api.examples import example_request, example_response
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import shown_settings
from instances.api.serializers import SetSettingsBody, SettingsBody, validate
from instances.integrations import NOTE_HEADER

NOTE = (
    "This server stores the settings and acts on none of them: an engine of yours that drives the instance finds them "
    "by GET /settings/find and /instance/fetchInstances"
)


class Settings(TypedDict):
    """The response of /settings/find; `wavoipToken` is masked for keys without the scope `manage`."""

    rejectCall: bool
    msgCall: str
    groupsIgnore: bool
    alwaysOnline: bool
    readMessages: bool
    readStatus: bool
    syncFullHistory: bool
    wavoipToken: str


class InstanceSettings(TypedDict):
    instanceName: str
    settings: dict[str, Any]


class SettingsAnswer(TypedDict):
    settings: InstanceSettings


_SETTINGS: Settings = {
    "rejectCall": True,
    "msgCall": "We take no calls",
    "groupsIgnore": False,
    "alwaysOnline": False,
    "readMessages": False,
    "readStatus": False,
    "syncFullHistory": False,
    "wavoipToken": "",
}


class SetSettings(APIView):
    scope = MANAGE

    @extend_schema(
        request=SetSettingsBody,
        responses={201: SettingsAnswer},
        examples=[
            example_request(_SETTINGS),
            example_response({"settings": {"instanceName": "loja", "settings": _SETTINGS}}, 201),
        ],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Set the settings; texts that are left out stay as they are.

        The header `X-Evoapi-Note` says that this server acts on none of them: an engine does.
        """
        validated = validate(SetSettingsBody(data=request.data))
        with transaction.atomic():
            instance = lock_instance(request)
            instance.settings = validate(SettingsBody(data={})) | instance.settings | validated
            instance.save(update_fields=["settings", "updated_at"])
        answer = {"settings": {"instanceName": name, "settings": validated}}
        return Response(answer, status=201, headers={NOTE_HEADER: NOTE})


class FindSettings(APIView):
    scope = READ

    @extend_schema(responses={200: Settings | None}, examples=[example_response(_SETTINGS)])
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the settings, or null where none were ever set."""
        return Response(shown_settings(request.instance, request.auth))
