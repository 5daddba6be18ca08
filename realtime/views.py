"""The REST routes of the log that read what it has."""

from __future__ import annotations

import orjson
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.authentication import READ
from instances.views import InstanceRequest
from realtime import history
from realtime.serializers import FindQuery


class FindEvents(APIView):
    """What the sockets of an instance heard, as far back as it is kept."""

    scope = READ

    def get(self, request: InstanceRequest, name: str) -> Response:
        query = FindQuery.of(request.query_params)
        query.is_valid(raise_exception=True)
        asked = query.validated_data
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
