"""Rows of stored messages, chats and contacts with Evolution API's members; OpenAPI's document has their types."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import orjson
from django.utils import timezone

from instances import json_body
from instances.api.chat_pages import FoundChat
from instances.api.records import MessageRecord
from instances.models import Chat, Contact, MessageStatus
from instances.timestamps import iso

#: The time after a person's last message in which the Cloud API lets a business answer with any text.
WINDOW = timedelta(hours=24)
#: Members of a medium's content that lists show; its keys, thumbnails and base64 are left out.
_SHOWN = ("caption", "fileName", "title", "mimetype", "seconds", "ptt", "pageCount", "gifPlayback", "url", "id")
#: The types of contents that are media.
MEDIA = ("imageMessage", "videoMessage", "audioMessage", "documentMessage", "stickerMessage", "ptvMessage")


def in_pieces(rows: Iterable[Any]) -> list[orjson.Fragment]:
    """Serialize rows one by one: of one that is large, others need not be measured."""
    return [orjson.Fragment(json_body.dumps(row)) for row in rows]


class StatusWord(TypedDict):
    status: str


class MayBeTrimmed(TypedDict, total=False):
    isTrimmed: bool


class MessageRow(MayBeTrimmed):
    """A stored message. `isTrimmed` is there where `message` was left out, because the response would be too large."""

    id: str
    key: dict[str, Any]
    pushName: str | None
    messageType: str
    message: dict[str, Any]
    messageTimestamp: int
    instanceId: str
    source: str
    contextInfo: dict[str, Any] | None
    MessageUpdate: list[StatusWord]


class MessageRecords(TypedDict):
    total: int
    pages: int
    currentPage: int
    records: list[MessageRow]


class FoundMessages(TypedDict):
    messages: MessageRecords


def message_row(message: MessageRecord, statuses: list[str], instance_id: str) -> MessageRow:
    row: MessageRow = {
        "id": str(message.id),
        "key": message.key,
        "pushName": message.push_name,
        "messageType": message.type,
        "message": {} if message.shown_content is None else message.shown_content,
        "messageTimestamp": message.timestamp,
        "instanceId": instance_id,
        "source": message.source,
        "contextInfo": message.shown_context,
        "MessageUpdate": [{"status": status} for status in statuses],
    }
    if message.shown_content is None:
        row["isTrimmed"] = True
    return row


class StatusRow(TypedDict):
    """A status of a message; `keyId` is the message's WhatsApp id, `messageId` that of its row."""

    id: str
    keyId: str
    remoteJid: str
    fromMe: bool
    participant: str
    pollUpdates: str | None
    status: str
    messageId: str
    instanceId: str


def status_row(status: MessageStatus) -> StatusRow:
    return {
        "id": str(status.pk),
        "keyId": str(status.message.wa_id),
        "remoteJid": status.remote_jid,
        "fromMe": status.message.from_me,
        "participant": status.participant,
        "pollUpdates": None,
        "status": status.status,
        "messageId": str(status.message_id),
        "instanceId": str(status.instance_id),
    }


class ContactRow(TypedDict):
    """A contact. `type` is group, contact (one with a name or a picture) or group_member."""

    id: str
    remoteJid: str
    pushName: str | None
    profilePicUrl: str | None
    createdAt: str
    updatedAt: str
    instanceId: str
    isGroup: bool
    isSaved: bool
    type: str


def contact_row(contact: Contact) -> ContactRow:
    is_group = contact.remote_jid.endswith("@g.us")
    is_saved = bool(contact.push_name or contact.profile_pic_url)
    return {
        "id": str(contact.pk),
        "remoteJid": contact.remote_jid,
        "pushName": contact.push_name,
        "profilePicUrl": contact.profile_pic_url,
        "createdAt": iso(contact.created_at),
        "updatedAt": iso(contact.updated_at),
        "instanceId": str(contact.instance_id),
        "isGroup": is_group,
        "isSaved": is_saved,
        "type": "group" if is_group else "contact" if is_saved else "group_member",
    }


class LastMessage(TypedDict):
    """The newest message of a chat; of media, `message` has the caption and the like alone."""

    id: str
    key: dict[str, Any]
    pushName: str | None
    participant: str | None
    messageType: str
    message: dict[str, Any]
    contextInfo: dict[str, Any] | None
    source: str
    messageTimestamp: int
    instanceId: str
    sessionId: str | None
    status: str | None


class ChatRow(TypedDict):
    """A chat. `id` is its contact's; the window is the Cloud API's: 24 hours from the last message of the other side.

    `unreadCount` counts the messages received after the last one of the instance's own.
    """

    id: str | None
    remoteJid: str
    pushName: str | None
    profilePicUrl: str | None
    updatedAt: str
    windowStart: str | None
    windowExpires: str | None
    windowActive: bool
    lastMessage: LastMessage | None
    unreadCount: int
    isSaved: bool


def chat_row(found: FoundChat, instance_id: str) -> ChatRow:
    chat, contact = found.chat, found.contact
    window_start = _moment(chat.last_inbound_at)
    window_end = window_start + WINDOW if window_start else None
    return {
        "id": str(contact.id) if contact else None,
        "remoteJid": chat.remote_jid,
        "pushName": (contact.push_name if contact else None) or chat.name,
        "profilePicUrl": contact.profile_pic_url if contact else None,
        "updatedAt": iso(_moment(chat.last_message_at) or timezone.now()),
        "windowStart": iso(window_start) if window_start else None,
        "windowExpires": iso(window_end) if window_end else None,
        "windowActive": bool(window_end and window_end > timezone.now()),
        "lastMessage": _last_message(found.message, instance_id) if found.message else None,
        "unreadCount": chat.unread_count,
        "isSaved": contact is not None,
    }


def _last_message(message: MessageRecord, instance_id: str) -> LastMessage:
    return {
        "id": str(message.id),
        "key": message.key,
        "pushName": message.push_name,
        "participant": message.participant,
        "messageType": message.type,
        "message": _without_media(message.shown_content or {}),
        "contextInfo": message.shown_context,
        "source": message.source,
        "messageTimestamp": message.timestamp,
        "instanceId": instance_id,
        "sessionId": None,
        "status": message.status,
    }


def _without_media(content: dict[str, Any]) -> dict[str, Any]:
    """Return a content for a list: of media, what people read."""
    shown = {}
    for name, value in content.items():
        if name in MEDIA and isinstance(value, dict):
            shown[name] = {member: value[member] for member in _SHOWN if member in value}
        elif name != "base64":
            shown[name] = value
    return shown


def _moment(seconds: int) -> datetime | None:
    """Return the time of a timestamp; None for 0, and for what no calendar has: providers may send any number."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if 0 < seconds < 2**37 else None
    except (OverflowError, ValueError, OSError):
        return None


class StoredChat(TypedDict):
    """The chat of an address, without its messages."""

    id: str
    remoteJid: str
    name: str | None
    labels: str | None
    createdAt: str
    updatedAt: str
    instanceId: str
    unreadMessages: int


def stored_chat(chat: Chat) -> StoredChat:
    return {
        "id": str(chat.pk),
        "remoteJid": chat.remote_jid,
        "name": chat.name,
        "labels": None,
        "createdAt": iso(chat.created_at),
        "updatedAt": iso(chat.updated_at),
        "instanceId": str(chat.instance_id),
        "unreadMessages": chat.unread_count,
    }


class ChannelRow(TypedDict):
    remoteJid: str
    lastMessageTimestamp: int


class FoundChannels(TypedDict):
    total: int
    pages: int
    currentPage: int
    limit: int
    records: list[ChannelRow]


class Picture(TypedDict):
    """The address of a number, and the URL of its picture where a message has named it."""

    wuid: str
    profilePictureUrl: str | None


class MissingQuery(TypedDict):
    """The error of a query, outside of the usual shape, as Evolution API answers it."""

    error: str
