"""The ingress endpoint of events that an engine of the user's own publishes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson
from django.utils import timezone
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework.exceptions import APIException, AuthenticationFailed, ParseError, UnsupportedMediaType
from rest_framework.utils.mediatypes import media_type_matches
from rest_framework.views import APIView

from instances import json_body
from instances.access.access import Access
from instances.access.cache import AccessCache
from instances.access.rest import authentication_error
from instances.access.rights import PUBLISH
from instances.api.responses import Error
from instances.api.serializers import validate
from instances.errors import ApiError, NotFound
from instances.events import EventType, check_extra
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, IngressResponse, InstanceQuery, Work
from instances.models import ConnectionState, Instance, Message
from realtime.api.event_serializers import MAX_KEY_LENGTH, PublishBatch, PublishBody
from realtime.api.responses import PublishedEvents, PublishedRow
from realtime.delivery import backlog
from realtime.delivery.enqueue import Recipients
from realtime.delivery.transports.base import off_reason
from realtime.envelope import event_id
from realtime.log.models import EventDraft, Recorded, subscriptions_of
from realtime.log.recorder import EventBatch, event_batch

JSON = "application/json"
#: Characters of an address in a column.
MAX_JID_LENGTH = 255


class Publish(APIView):
    """Describes `PublishIngress` in the OpenAPI document."""

    @extend_schema(
        request=PolymorphicProxySerializer(
            "PublishOneOrMany", [PublishBody, PublishBody(many=True)], resource_type_field_name=None, many=False
        ),
        responses={201: PublishedEvents, 429: Error},
    )
    def post(self, request: Any, name: str) -> None:
        """Publish an event of your own engine, or an array of them: all events of a request, or none."""


class PublishIngress(IngressEndpoint):
    """POST /event/publish/<instance>: an event, or an array of them; all are recorded, or none."""

    path = "/event/publish/"
    openapi_view = Publish

    def authorize(self, request: IngressRequest, cache: AccessCache) -> Access:
        access = _access(request, cache)
        name = request.name
        _check(access, name, None if "\x00" in name else Instance.objects.filter(name=name).first(), cache)
        return access

    def prepare(self, request: IngressRequest, cache: AccessCache) -> PublishWork:
        access = _access(request, cache)
        try:
            return PublishWork(request, access, cache, _drafts(request), None)
        except APIException as error:  # raised after the key is authorized: other clients get no details
            return PublishWork(request, access, cache, [], error)


def _access(request: IngressRequest, cache: AccessCache) -> Access:
    """Return the access of the request's key. Raises APIException without a valid one."""
    access = cache.access(request.headers.get("apikey", ""))
    if access is None:
        raise authentication_error(request.client_address)
    return access


def _check(access: Access, name: str, instance: Instance | None, cache: AccessCache) -> None:
    """Raise APIException unless the access may publish to the instance of this name, None if there is none."""
    if instance is None and access.is_for_all:
        raise NotFound(f'The "{name}" instance does not exist')
    if instance is None or not cache.opens(access, instance):
        raise AuthenticationFailed
    if not access.may(PUBLISH):
        raise ApiError(f"This key may not {PUBLISH}", 403)


class PublishWork(Work):
    """The events of a request, or the error in its body."""

    def __init__(
        self,
        request: IngressRequest,
        access: Access,
        cache: AccessCache,
        drafts: list[EventDraft],
        error: APIException | None,
    ) -> None:
        self.name = request.name
        self.size = len(request.body)
        self.reservation: backlog.Reservation | None = None
        self.access = access
        self.cache = cache
        self.drafts = drafts
        self.error = error
        self.query = InstanceQuery() if "\x00" in self.name else InstanceQuery(name=self.name)

    def apply(self, instances: list[Instance]) -> None:
        _check(self.access, self.name, instances[0] if instances else None, self.cache)
        if self.error:
            raise self.error
        self._require_backlog(instances[0])
        self.event_batch: EventBatch = event_batch(instances[0])
        self.pending = [self.event_batch.add(draft._replace(is_admitted=True)) for draft in self.drafts]

    def _require_backlog(self, instance: Instance) -> None:
        """Add the deliveries of the events to the instance's backlog. Raises ApiError (429) if they are too many.

        Those to the operator's endpoints are left out: they are dropped where they are too many. Applied again, after
        a rollback, it takes those of before out first.
        """
        if self.reservation is not None:
            self.reservation.cancel()
            self.reservation = None
        recipients = Recipients(subscriptions_of(instance))
        if not recipients:
            return
        by_transport: Counter[str] = Counter()
        for event_type, count in Counter(draft.event_type for draft in self.drafts).items():
            for endpoint in recipients.of(event_type):
                by_transport[endpoint.transport] += 0 if endpoint.is_operators else count
        counts = [count for name, count in by_transport.items() if count and not off_reason(name)]
        if counts:
            # the body of a transport is about as large as the request
            self.reservation = backlog.require(instance.pk, sum(counts), self.size * len(counts), is_operators=False)

    def response(self) -> IngressResponse:
        self._store_state()
        self._store_statuses()
        rows = [_row(self.event_batch.epoch, event.draft, event.recorded) for event in self.pending]
        return IngressResponse(201, orjson.dumps({"events": rows}))

    def _store_state(self) -> None:
        """Store the state of the last connection.update, recorded or deferred; that event announces it already."""
        states = [
            event.draft.data.get("state")
            for event in self.pending
            if not event.recorded.is_repeat
            and event.draft.event_type == EventType.CONNECTION_UPDATE
            and isinstance(event.draft.data, dict)
        ]
        if known := [state for state in states if state in ConnectionState.values]:
            instance = Instance.objects.filter(pk=self.event_batch.instance.pk)
            # an engine that is connected again ends the log-out
            ended = {"logged_out_at": None} if known[-1] == ConnectionState.OPEN else {}
            instance.update(connection_state=known[-1], updated_at=timezone.now(), **ended)

    def _store_statuses(self) -> None:
        """Store the statuses of the messages.update that are recorded, where their messages are stored."""
        events = [
            event.draft.data
            for event in self.pending
            if event.draft.event_type == EventType.MESSAGES_UPDATE and not event.recorded.is_repeat
        ]
        reports = [report for data in events for report in (data if isinstance(data, list) else [data])]
        if statuses := [status for status in map(_status, reports) if status]:
            Message.store_statuses(self.event_batch.instance, statuses)


def _status(report: Any) -> tuple[str, str, str | None] | None:
    """Return the id of the message, its status and the participant in the data of a messages.update.

    None if it lacks id or status; the participant is None where it is no address.
    """
    if not isinstance(report, dict):
        return None
    wa_id, word, participant = report.get("keyId"), report.get("status"), report.get("participant")
    if not isinstance(wa_id, str) or not isinstance(word, str) or "\x00" in wa_id:
        return None
    is_address = isinstance(participant, str) and 0 < len(participant) <= MAX_JID_LENGTH and "\x00" not in participant
    return wa_id, word, participant if is_address else None


def _row(epoch: str, draft: EventDraft, recorded: Recorded) -> PublishedRow:
    return {
        "id": None if recorded.seq is None else event_id(epoch, recorded.seq),
        "seq": recorded.seq,
        "event": draft.event_type.value,
        "isRepeat": recorded.is_repeat,
        "isHeld": recorded.is_deferred,
    }


# The body


def _drafts(request: IngressRequest) -> list[EventDraft]:
    """Return the events of a body. Raises APIException unless it is an event or an array of events."""
    body = _json(request)
    if isinstance(body, dict) and (draft := _well_formed(body)):
        return [draft]
    is_many = isinstance(body, list)
    events = validate(PublishBatch(data={"events": body}))["events"] if is_many else [validate(PublishBody(data=body))]
    return [_draft(event["event"], event["data"], event.get("dedupeKey"), event.get("extra")) for event in events]


def _json(request: IngressRequest) -> Any:
    """Return the parsed body: an object or an array. Raises APIException."""
    if not request.body:
        return {}
    content_type = request.headers.get("content-type", "")
    if content_type != JSON and not media_type_matches(JSON, content_type):
        raise UnsupportedMediaType(content_type)
    try:
        body = json_body.load(request.body) if request.body.strip() else {}
    except json_body.NotJson as error:
        raise ParseError(str(error)) from None
    if not isinstance(body, (dict, list)):
        raise ParseError("The body must be a JSON object")
    return body


_USUAL_MEMBERS = set(map(str, PublishBody().fields)) - {"extra"}


def _well_formed(event: dict[str, Any]) -> EventDraft | None:
    """Return a valid event without the cost of the serializer, None for one that the serializer has to check."""
    event_type, key = EventType.named(event.get("event")), event.get("dedupeKey")
    if event_type is None or not event_type.is_publishable or "data" not in event or not event.keys() <= _USUAL_MEMBERS:
        return None
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= MAX_KEY_LENGTH and "\x00" not in key):
        return None
    return _draft(event_type, event["data"], key)


def _draft(event_type: EventType, data: Any, key: str | None, extra: Mapping[str, Any] | None = None) -> EventDraft:
    # with a prefix, so that it never equals a key that a provider finds in a payload
    dedupe_key = None if key is None else f"publish:{key}"
    return EventDraft(event_type, data, dedupe_key, extra=check_extra(event_type, extra) if extra else None)
