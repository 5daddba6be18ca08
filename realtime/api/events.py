"""REST route that reads the event log."""

from __future__ import annotations

import orjson
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.rights import READ
from instances.api.request import InstanceRequest
from instances.api.serializers import validate
from instances.errors import ApiError
from instances.models import Instance
from realtime.api.event_serializers import FindQuery
from realtime.api.responses import FoundEvents
from realtime.fanout.offset import Offset
from realtime.fanout.options import SINCE_FORM
from realtime.fanout.recovery import ReplayRange, Since
from realtime.log import history


class FindEvents(APIView):
    """GET /event/find/<instance>"""

    scope = READ

    @extend_schema(parameters=[FindQuery], responses={200: FoundEvents})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """List the events that its sockets received, in order: the last ones, or those after a sequence number."""
        filters = validate(FindQuery.of(request.query_params))
        types = filters.pop("events", filters.pop("type", None))
        if (since := filters.pop("since", None)) is not None:
            filters["after"] = _after(request.instance, since)
        page = history.page(request.instance.pk, types=types, **filters)
        return Response(
            {
                "events": [orjson.Fragment(envelope) for envelope in page.envelopes],
                "first": page.stream.first_seq,
                "last": page.stream.last_seq,
                "epoch": page.stream.epoch,
                "hasMore": page.has_more,
            }
        )


def _after(instance: Instance, since: int | Offset) -> int:
    """Return the seq after which a client wants events, as sockets understand it. Raises ApiError."""
    result, position = ReplayRange.of_instances([instance.pk])[instance.pk].find(since)
    if result is Since.OTHER:
        raise ApiError(f"since is an offset in the stream of all instances: here it is {SINCE_FORM}")
    return position
