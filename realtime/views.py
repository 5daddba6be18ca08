"""The REST routes of the log: putting events into it, and reading what it has."""

from __future__ import annotations

from io import BytesIO
from typing import IO, Any

import orjson
from django.db import transaction
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed, ParseError
from rest_framework.response import Response
from rest_framework.views import APIView

from instances import bodies
from instances.authentication import PUBLISH, READ
from instances.errors import NotFound
from instances.events import EventType
from instances.models import ConnectionState, Instance
from instances.parsers import JsonParser
from instances.views import InstanceRequest
from realtime import history
from realtime.models import Event, Happening, Recorded, Stream, event_id
from realtime.serializers import FindQuery, PublishBatch, PublishBody


class OneOrManyParser(JsonParser):
    """A JSON object, or an array of what its view takes."""

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        body = stream.read()
        if not body.lstrip().startswith(b"["):
            return super().parse(BytesIO(body), media_type, parser_context)
        try:
            return bodies.load(body)
        except bodies.NotJson as error:
            raise ParseError(str(error)) from None


class PublishEvents(APIView):
    """Events of an engine of yours. All that one request holds are told, or none."""

    scope = PUBLISH
    parser_classes = (OneOrManyParser,)

    def post(self, request: InstanceRequest, name: str) -> Response:
        happenings = [self._happening(told) for told in self._told(request.data)]
        with transaction.atomic():
            instance = Instance.objects.locked().filter(pk=request.instance.pk).first()
            if instance is None:
                raise NotFound(f'The "{name}" instance does not exist')
            if not request.auth.opens(instance):
                raise AuthenticationFailed  # its token was rotated while we waited
            recorded = Event.objects.record_all(instance, happenings)
            self._keep_state(instance, happenings, recorded)
            epoch = Stream.objects.state(instance.pk).epoch
        rows = [self._row(epoch, *told) for told in zip(happenings, recorded, strict=True)]
        return Response({"events": rows}, status=201)

    def _told(self, data: Any) -> list[dict[str, Any]]:
        is_many = isinstance(data, list)
        body = PublishBatch(data={"events": data}) if is_many else PublishBody(data=data)
        body.is_valid(raise_exception=True)
        return body.validated_data["events"] if is_many else [body.validated_data]

    def _happening(self, told: dict[str, Any]) -> Happening:
        key = told.get("dedupeKey")
        # apart from the keys that providers find in what they are sent
        return Happening(told["event"], told["data"], None if key is None else f"publish:{key}")

    def _keep_state(self, instance: Instance, happenings: list[Happening], recorded: list[Recorded]) -> None:
        """The last connection.update is how the instance is now. It is told of already, so nothing announces it."""
        states = [
            happening.data.get("state")
            for happening, place in zip(happenings, recorded, strict=True)
            if place.event and happening.event_type == EventType.CONNECTION_UPDATE and isinstance(happening.data, dict)
        ]
        if known := [state for state in states if state in ConnectionState.values]:
            now = timezone.now()
            Instance.objects.filter(pk=instance.pk).update(connection_state=known[-1], updated_at=now)

    def _row(self, epoch: str, happening: Happening, place: Recorded) -> dict[str, Any]:
        return {
            "id": event_id(epoch, place.seq),
            "seq": place.seq,
            "event": happening.event_type.value,
            "isRepeat": place.event is None,
        }


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
