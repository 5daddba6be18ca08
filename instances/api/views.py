"""The base class of routes whose work is done by an instance's channel to WhatsApp."""

from __future__ import annotations

from typing import Any

from rest_framework.views import APIView

from instances.errors import ApiError
from instances.integrations import NOTE_HEADER, integration_of
from instances.models import Instance


class ChannelView(APIView):
    """A view of an instance; its responses have a header that says what the channel needs besides this server."""

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        instance = getattr(request, "instance", None)
        if instance and (note := integration_of(instance.integration).note):
            response[NOTE_HEADER] = note
        return response


def unavailable(instance: Instance) -> ApiError:
    """Return the error of a route that the instance's channel cannot serve, in Evolution API's words (400)."""
    return ApiError(integration_of(instance.integration).unavailable.format(name=instance.name))
