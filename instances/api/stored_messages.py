"""Routes that read stored messages, their statuses and their media."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.rights import READ
from instances.api.message_pages import find
from instances.api.read_bodies import (
    FindMessagesBody,
    FindStatusBody,
    MediaMessageBody,
    PollVoteBody,
    StoredMediaBody,
    StoredMediaUrlBody,
)
from instances.api.request import InstanceRequest
from instances.api.responses import Error
from instances.api.serializers import validate
from instances.api.stored_rows import MEDIA, FoundMessages, StatusRow, in_pieces, message_row, status_row
from instances.api.views import ChannelView, unavailable
from instances.errors import ApiError
from instances.models import Instance, Message, MessageStatus
from instances.unreadable import readable

_ANA = "5511988887777@s.whatsapp.net"


class FindMessages(APIView):
    scope = READ

    @extend_schema(
        request=FindMessagesBody,
        responses={200: FoundMessages},
        examples=[
            OpenApiExample(
                "A chat", {"where": {"key": {"remoteJid": _ANA}}, "page": 1, "offset": 50}, request_only=True
            ),
            OpenApiExample(
                "What came in on a day",
                {
                    "where": {
                        "key": {"fromMe": False},
                        "messageTimestamp": {"gte": "2026-01-31T00:00:00Z", "lte": "2026-01-31T23:59:59Z"},
                    }
                },
                request_only=True,
            ),
        ],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Return a page of the stored messages, newest first; `offset` is the size of a page, as in Evolution API.

        All filters are optional. A `remoteJid` also finds messages that have it as `remoteJidAlt`; with both, those of
        either are found. A phone number means its address, too. `total` is exact without filters and for a chat, for
        other filters up to 10,000.
        """
        body = validate(FindMessagesBody(data=request.data))
        page, size = body["page"], body["offset"]
        found = find(request.instance, body.get("where", {}), page, size)
        instance_id = str(request.instance.pk)
        rows = in_pieces(
            message_row(message, found.statuses.get(message.id, []), instance_id) for message in found.messages
        )
        pages = -(-found.total // size)
        return Response({"messages": {"total": found.total, "pages": pages, "currentPage": page, "records": rows}})


class FindStatusMessage(APIView):
    scope = READ

    @extend_schema(
        request=FindStatusBody,
        responses={200: list[StatusRow]},
        examples=[OpenApiExample("Of a message", {"where": {"id": "3EB0C767D097B7C7C030"}}, request_only=True)],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Return a page of the statuses of stored messages, in the order in which they were reported."""
        body = validate(FindStatusBody(data=request.data))
        skip = (body["page"] - 1) * body["offset"]
        rows = _statuses(request.instance, body.get("where", {})).order_by("id")
        ids = list(rows.values_list("pk", flat=True)[skip : skip + body["offset"]])
        stored = MessageStatus.objects.filter(pk__in=ids).select_related("message").order_by("id")
        own = [field.attname for field in MessageStatus._meta.concrete_fields]
        found = readable(stored.only(*own, "message__wa_id", "message__from_me"))
        return Response([status_row(status) for status in found])


def _statuses(instance: Instance, where: dict[str, Any]) -> Any:
    """Return the statuses that match the filters of `where`, as `FindStatusBody` holds them."""
    rows = MessageStatus.objects.filter(instance=instance)
    if "id" in where:
        known = Message.objects.filter(instance=instance, wa_id=where["id"])
        rows = rows.filter(message__in=list(known.values_list("pk", flat=True)))
    columns = {"remoteJid": "remote_jid", "participant": "participant", "status": "status"}
    columns |= {"fromMe": "message__from_me"}
    return rows.filter(**{column: where[name] for name, column in columns.items() if name in where})


class GetBase64FromMediaMessage(ChannelView):
    scope = READ

    @extend_schema(
        request=MediaMessageBody,
        responses={400: Error},
        examples=[
            OpenApiExample("By its id", {"message": {"key": {"id": "wamid.HBgNNTUx"}}}, request_only=True),
        ],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Answer why there is no media of a message: it is not stored, is no media, or cannot be fetched yet."""
        body: dict[str, Any] = request.data  # type: ignore[assignment]
        wa_id = validate(MediaMessageBody(data=body))["message"]["key"]["id"]
        if not request.instance.provider.keeps_media:
            raise unavailable(request.instance)
        stored = Message.objects.stored(request.instance).filter(wa_id=wa_id).values_list("type", flat=True).first()
        given = body["message"].get("messageType")
        if stored is None and not isinstance(given, str):
            raise ApiError("Message not found")
        if (stored or given) not in MEDIA:
            raise ApiError("The message is not of the media type")
        raise ApiError("This server does not fetch media from the Graph API yet")


class GetPollVote(ChannelView):
    scope = READ

    @extend_schema(request=PollVoteBody, responses={400: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Answer that the instance's channel cannot decrypt the votes of a poll, which WhatsApp Web alone can."""
        validate(PollVoteBody(data=request.data))
        raise unavailable(request.instance)


class GetMedia(APIView):
    scope = READ

    @extend_schema(request=StoredMediaBody, responses={400: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Answer as Evolution API does where the instance has no stored media: this server stores none."""
        validate(StoredMediaBody(data=request.data))
        raise ApiError("Media not found")


class GetMediaUrl(APIView):
    scope = READ

    @extend_schema(request=StoredMediaUrlBody, responses={400: Error})
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Answer as Evolution API does where the instance has no stored media: this server stores none."""
        validate(StoredMediaUrlBody(data=request.data))
        raise ApiError("Media not found")


#: The views by their paths, without the instance's name.
VIEWS: dict[str, type[APIView]] = {
    "chat/findMessages": FindMessages,
    "chat/findStatusMessage": FindStatusMessage,
    "chat/getBase64FromMediaMessage": GetBase64FromMediaMessage,
    "chat/getPollVote": GetPollVote,
    "s3/getMedia": GetMedia,
    "s3/getMediaUrl": GetMediaUrl,
}
