"""The door for events of an engine of yours."""

from __future__ import annotations

from typing import Any

import orjson
from django.utils import timezone
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework.exceptions import APIException, AuthenticationFailed, ParseError, UnsupportedMediaType
from rest_framework.utils.mediatypes import media_type_matches
from rest_framework.views import APIView

from instances import json_body
from instances.access.access import PUBLISH, Access
from instances.access.cache import AccessCache
from instances.access.rest import authentication_error
from instances.api.serializers import validate
from instances.errors import ApiError, NotFound
from instances.events import EventType
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, IngressResponse, InstanceQuery, Work
from instances.models import ConnectionState, Instance
from realtime.api.event_serializers import MAX_KEY_LENGTH, PublishBatch, PublishBody
from realtime.api.responses import PublishedEvents, PublishedRow
from realtime.envelope import event_id
from realtime.log.models import EventDraft, Recorded
from realtime.log.recorder import EventBatch, event_batch

JSON = "application/json"


class Publish(APIView):
    """Described by it; `PublishIngress` is what takes the request."""

    @extend_schema(
        request=PolymorphicProxySerializer(
            "PublishOneOrMany", [PublishBody, PublishBody(many=True)], resource_type_field_name=None, many=False
        ),
        responses={201: PublishedEvents},
    )
    def post(self, request: Any, name: str) -> None:
        """An event of an engine of yours, or an array of them. All that one request holds are told, or none."""


class PublishIngress(IngressEndpoint):
    """POST /event/publish/<instance>: an event, or an array of them. All that one request holds are told, or none."""

    path = "/event/publish/"
    openapi_view = Publish

    def admit(self, call: IngressRequest, cache: AccessCache) -> Published:
        access = cache.access(call.headers.get("apikey", ""))
        if access is None:
            raise authentication_error(call.address)
        try:
            return Published(call.name, access, cache, _drafts(call), None)
        except APIException as error:  # who may not publish here is not told what is wrong with it
            return Published(call.name, access, cache, [], error)


class Published(Work):
    def __init__(
        self, name: str, access: Access, cache: AccessCache, drafts: list[EventDraft], error: APIException | None
    ) -> None:
        self.name = name
        self.access = access
        self.cache = cache
        self.drafts = drafts
        self.error = error
        self.address = InstanceQuery() if "\x00" in name else InstanceQuery(name=name)

    def apply(self, instances: list[Instance]) -> None:
        if not instances and self.access.is_for_all:
            raise NotFound(f'The "{self.name}" instance does not exist')
        if not instances or not self.cache.opens(self.access, instances[0]):
            raise AuthenticationFailed
        if not self.access.may(PUBLISH):
            raise ApiError(f"This key may not {PUBLISH}", 403)
        if self.error:
            raise self.error
        self.event_batch: EventBatch = event_batch(instances[0])
        self.told = [self.event_batch.add(draft) for draft in self.drafts]

    def answer(self) -> IngressResponse:
        self._keep_state()
        rows = [_row(self.event_batch.epoch, told.draft, told.recorded) for told in self.told]
        return IngressResponse(201, orjson.dumps({"events": rows}))

    def _keep_state(self) -> None:
        """The last connection.update is how the instance is now, told or held. So nothing announces it."""
        states = [
            told.draft.data.get("state")
            for told in self.told
            if not told.recorded.is_repeat
            and told.draft.event_type == EventType.CONNECTION_UPDATE
            and isinstance(told.draft.data, dict)
        ]
        if known := [state for state in states if state in ConnectionState.values]:
            instance = Instance.objects.filter(pk=self.event_batch.instance.pk)
            instance.update(connection_state=known[-1], updated_at=timezone.now())


def _row(epoch: str, draft: EventDraft, place: Recorded) -> PublishedRow:
    return {
        "id": None if place.seq is None else event_id(epoch, place.seq),
        "seq": place.seq,
        "event": draft.event_type.value,
        "isRepeat": place.is_repeat,
        "isHeld": place.is_deferred,
    }


# What is posted


def _drafts(call: IngressRequest) -> list[EventDraft]:
    """Raises APIException for what is no event, or no list of them."""
    body = _json(call)
    if isinstance(body, dict) and (draft := _well_formed(body)):
        return [draft]
    is_many = isinstance(body, list)
    told = validate(PublishBatch(data={"events": body}))["events"] if is_many else [validate(PublishBody(data=body))]
    return [_draft(one["event"], one["data"], one.get("dedupeKey")) for one in told]


def _json(call: IngressRequest) -> Any:
    if not call.body:
        return {}
    content_type = call.headers.get("content-type", "")
    if content_type != JSON and not media_type_matches(JSON, content_type):
        raise UnsupportedMediaType(content_type)
    try:
        body = json_body.load(call.body) if call.body.strip() else {}
    except json_body.NotJson as error:
        raise ParseError(str(error)) from None
    if not isinstance(body, (dict, list)):
        raise ParseError("The body must be a JSON object")
    return body


def _well_formed(told: dict[str, Any]) -> EventDraft | None:
    """What most requests are, without the cost of finding out what is wrong with the others."""
    event_type, key = EventType.named(told.get("event")), told.get("dedupeKey")
    if event_type is None or not event_type.is_publishable or "data" not in told:
        return None
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= MAX_KEY_LENGTH and "\x00" not in key):
        return None
    return _draft(event_type, told["data"], key)


def _draft(event_type: EventType, data: Any, key: str | None) -> EventDraft:
    # apart from the keys that providers find in what they are sent
    return EventDraft(event_type, data, None if key is None else f"publish:{key}")
