"""Routes that read stored chats, contacts and channels."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.rights import READ
from instances.api.chat_pages import contacts_of, find_channels, find_chats, find_contacts
from instances.api.ignored import note_ignored
from instances.api.read_bodies import DEFAULT_ROWS, FindChannelsBody, FindChatsBody, FindContactsBody, PictureBody
from instances.api.request import InstanceRequest
from instances.api.serializers import validate
from instances.api.stored_rows import (
    ChatRow,
    ContactRow,
    FoundChannels,
    MissingQuery,
    Picture,
    StoredChat,
    chat_row,
    contact_row,
    in_pieces,
    stored_chat,
)
from instances.bounds import PAGE_ROWS
from instances.models import Chat, Instance
from instances.names import jid
from instances.unreadable import readable

_ANA = "5511988887777@s.whatsapp.net"


class FindChats(APIView):
    scope = READ

    @extend_schema(
        request=FindChatsBody,
        responses={200: list[ChatRow]},
        examples=[
            OpenApiExample("A page", {"where": {}, "take": 100, "skip": 0}, request_only=True),
            OpenApiExample("One chat", {"where": {"remoteJid": _ANA}}, request_only=True),
        ],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Return the chats that have messages, the one with the newest first: `take` of them or the first 1,000.

        With `messageTimestamp` those with a message in that time, and as `lastMessage` the newest of these.
        """
        body = validate(FindChatsBody(data=request.data))
        take, skip = body.get("take"), body["skip"]
        if take is None and ("page" in body or "offset" in body):
            take = body.get("offset", DEFAULT_ROWS)
            skip += (body.get("page", 1) - 1) * take
        return _chats(request.instance, body.get("where", {}), skip, take)

    @extend_schema(responses={200: list[ChatRow]})
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the 1,000 chats with the newest messages, as clients of Evolution API 1 ask for them."""
        note_ignored(request.query_params)
        return _chats(request.instance, {}, 0, None)


def _chats(instance: Instance, where: dict[str, Any], skip: int, take: int | None) -> Response:
    rows = (chat_row(found, str(instance.pk)) for found in find_chats(instance, where, skip, take))
    return Response(in_pieces(rows))


class FindContacts(APIView):
    scope = READ

    @extend_schema(
        request=FindContactsBody,
        responses={200: list[ContactRow]},
        examples=[
            OpenApiExample("By name", {"where": {"pushName": "Ana"}, "page": 1, "offset": 50}, request_only=True)
        ],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Return contacts, newest first: a page of them (`offset` is its size) or the first 1,000.

        The filters are combined: a contact has all of these values.
        """
        body = validate(FindContactsBody(data=request.data))
        size = body.get("offset", DEFAULT_ROWS if "page" in body else PAGE_ROWS)
        found = find_contacts(request.instance, body.get("where", {}), body.get("page", 1), size)
        return Response(in_pieces(map(contact_row, found)))


class FindChatByRemoteJid(APIView):
    scope = READ

    @extend_schema(
        parameters=[OpenApiParameter("remoteJid", {"type": "string", "minLength": 1}, required=True)],
        responses={200: StoredChat | None, 400: MissingQuery},
    )
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the chat of an address, or null."""
        note_ignored(name for name in request.query_params if name != "remoteJid")
        remote_jid = request.query_params.get("remoteJid")
        if not remote_jid:
            return Response({"error": "remoteJid is a required query parameter"}, 400)
        rows = Chat.objects.filter(instance=request.instance, remote_jid=remote_jid)
        found = readable(rows) if "\x00" not in remote_jid else []
        return Response(stored_chat(found[0]) if found else None)


class FindChannels(APIView):
    scope = READ

    @extend_schema(
        request=FindChannelsBody,
        responses={200: FoundChannels},
        examples=[OpenApiExample("The first page", {"page": 1, "limit": 50}, request_only=True)],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Return a page of the channels (newsletters) that the instance wrote to."""
        body = validate(FindChannelsBody(data=request.data))
        page, size = body["page"], body.get("limit", body.get("rows", DEFAULT_ROWS))
        total, channels = find_channels(request.instance, page, size)
        rows = [{"remoteJid": channel, "lastMessageTimestamp": timestamp} for channel, timestamp in channels]
        pages = -(-total // size)
        return Response({"total": total, "pages": pages, "currentPage": page, "limit": size, "records": rows})


class FetchProfilePictureUrl(APIView):
    scope = READ

    @extend_schema(
        request=PictureBody,
        responses={200: Picture},
        examples=[OpenApiExample("Of a number", {"number": "5511988887777"}, request_only=True)],
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Return the picture of a number as a message has named it, or null: WhatsApp is not asked."""
        number = validate(PictureBody(data=request.data))["number"]
        wuid = jid(number)
        contacts = contacts_of(request.instance, [wuid, number])
        pictures = (contacts[each].profile_pic_url for each in (wuid, number) if each in contacts)
        return Response({"wuid": wuid, "profilePictureUrl": next(filter(None, pictures), None)})


#: The views by their paths, without the instance's name.
VIEWS: dict[str, type[APIView]] = {
    "chat/findChats": FindChats,
    "chat/findContacts": FindContacts,
    "chat/findChatByRemoteJid": FindChatByRemoteJid,
    "chat/findChannels": FindChannels,
    "chat/fetchProfilePictureUrl": FetchProfilePictureUrl,
}
