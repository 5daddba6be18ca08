"""The REST routes of the log that read what it has."""

from __future__ import annotations

import orjson
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.access import READ
from instances.api.request import InstanceRequest
from instances.api.serializers import validate
from realtime.api.event_serializers import FindQuery
from realtime.api.responses import FoundEvents
from realtime.log import history


class FindEvents(APIView):
    """What the sockets of an instance heard, as far back as it is kept."""

    scope = READ

    @extend_schema(parameters=[FindQuery], responses={200: FoundEvents})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """What its sockets heard, in order: the last events, or those after a number."""
        asked = validate(FindQuery.of(request.query_params))
        types = asked.pop("type", None)
        page = history.page(request.instance.pk, types=types, **asked)
        return Response(
            {
                "events": [orjson.Fragment(envelope) for envelope in page.envelopes],
                "first": page.stream.first_seq,
                "last": page.stream.last_seq,
                "epoch": page.stream.epoch,
                "hasMore": page.has_more,
            }
        )
