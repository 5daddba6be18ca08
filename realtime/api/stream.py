"""The description of event streams for the OpenAPI document; `realtime/fanout/sse.py` serves them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.views import APIView

from instances.access.rights import LISTEN
from instances.errors import ApiError


class EventStreamView(APIView):
    """Describes GET /event/stream/<instance>, which the ASGI application answers in front of Django's views."""

    scope = LISTEN
    is_stream = True

    @extend_schema(
        operation_id="EventStream",
        parameters=[
            OpenApiParameter("since", description="The stream begins after the event with this `seq` or `id`."),
            OpenApiParameter("events", description="Only these events, separated by commas; any name of theirs."),
            OpenApiParameter("token", description="A minted token, where no header can be set, as in an EventSource."),
            OpenApiParameter("Last-Event-ID", location="header", description="As `since`: an EventSource sends it."),
        ],
        responses={(200, "text/event-stream"): str},
    )
    def get(self, request: Any, name: str) -> None:
        """Send the instance's events as server-sent events, as long as the client stays.

        Each has the envelope as `data`, the event's name as `event` and its id as `id`; the format is
        https://html.spec.whatwg.org/multipage/server-sent-events.html.
        """
        raise ApiError("Event streams need the ASGI application evoapi.asgi.application: start `manage.py serve`", 501)
