"""Routes that send messages."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from instances.access.rights import SEND
from instances.api.request import InstanceRequest
from instances.api.responses import Error
from instances.api.serializers import TextBody, validate
from instances.api.views import ChannelView
from instances.sending import send_text


class SendText(ChannelView):
    scope = SEND

    @extend_schema(request=TextBody, responses={201: dict[str, Any], 409: Error, 502: Error, 504: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a text message and return it as Evolution API's message object.

        An `id` of your own makes a repeat safe: it returns the first result, or 409 while that is under way. An error
        whose `response.outcome` is `unknown` (502, 504) says that WhatsApp may have the message and may not; then a
        repeat within two minutes returns the same error, unless it has `retryUnknown`, by which it is sent again. Where
        an engine of yours has to send the message, the header `X-Evoapi-Note` says so.
        """
        return Response(send_text(request.instance, validate(TextBody(data=request.data))), status=201)
