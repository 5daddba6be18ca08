"""Routes that send messages."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.rights import SEND
from instances.api.request import InstanceRequest
from instances.api.responses import Error
from instances.api.serializers import TextBody, validate
from instances.sending import send_text


class SendText(APIView):
    scope = SEND

    @extend_schema(request=TextBody, responses={201: dict[str, Any], 409: Error, 502: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a text message and return it as Evolution API's message object."""
        return Response(send_text(request.instance, validate(TextBody(data=request.data))), status=201)
