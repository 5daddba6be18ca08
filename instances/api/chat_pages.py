"""Pages of an instance's chats, with their last messages, and of its contacts; newest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery

from instances.api.message_pages import CONTENTS, NEWEST_FIRST, row_id, stored_size, within
from instances.bounds import LAST_MESSAGE_BYTES, PAGE_ROWS
from instances.models import Chat, Contact, Instance, Message
from instances.unreadable import readable


@dataclass(frozen=True)
class FoundChat:
    """A chat with the contact of its address and its last message, where they are known."""

    chat: Chat
    contact: Contact | None
    message: Message | None
    #: True if the content of the message is too large for a list, and was not read.
    is_trimmed: bool


def find_chats(instance: Instance, where: dict[str, Any], skip: int, take: int | None) -> list[FoundChat]:
    """Return the chats with messages that match the filters of `where`, as `FindChatsBody` holds them."""
    rows = Chat.objects.filter(instance=instance, last_message_at__gt=0)
    if "remoteJid" in where:
        rows = rows.filter(remote_jid=where["remoteJid"])
    is_within = within(where.get("messageTimestamp", {}))
    messages = Message.objects.stored(instance).filter(is_within, remote_jid=OuterRef("remote_jid"))
    if is_within:
        rows = rows.filter(within({"gte": where["messageTimestamp"].get("gte", 0)}, "last_message_at"))
        rows = rows.filter(Exists(messages))
    ids = _page(rows.order_by("-last_message_at", "-id"), skip, take or PAGE_ROWS)
    newest = Subquery(messages.order_by(*NEWEST_FIRST).values("pk")[:1])
    chats: dict[int, Any] = {
        chat.pk: chat for chat in readable(Chat.objects.filter(pk__in=ids).annotate(newest_id=newest))
    }
    found = [chats[pk] for pk in ids if pk in chats]
    contacts = contacts_of(instance, [chat.remote_jid for chat in found])
    whole, trimmed = _last_messages([chat.newest_id for chat in found if chat.newest_id])
    return [
        FoundChat(
            chat,
            contacts.get(chat.remote_jid),
            whole.get(chat.newest_id) or trimmed.get(chat.newest_id),
            chat.newest_id in trimmed,
        )
        for chat in found
    ]


def _last_messages(ids: Iterable[int]) -> tuple[dict[int, Message], dict[int, Message]]:
    """Return messages by their ids: the whole ones, and those whose contents are too large for a list."""
    messages = Message.objects.filter(pk__in=list(ids)).annotate(size=stored_size(*CONTENTS))
    whole = readable(messages.filter(size__lte=LAST_MESSAGE_BYTES))
    trimmed = readable(messages.filter(size__gt=LAST_MESSAGE_BYTES).defer(*CONTENTS))
    return {message.pk: message for message in whole}, {message.pk: message for message in trimmed}


def contacts_of(instance: Instance, jids: Iterable[str]) -> dict[str, Contact]:
    """Return the contacts with these addresses."""
    rows = readable(Contact.objects.filter(instance=instance, remote_jid__in=list(jids)))
    return {contact.remote_jid: contact for contact in rows}


def find_contacts(instance: Instance, where: dict[str, Any], page: int, size: int) -> list[Contact]:
    """Return a page of the contacts that match the filters of `where`, as `FindContactsBody` holds them."""
    rows = Contact.objects.filter(instance=instance)
    if "id" in where:
        rows = rows.filter(pk=row_id(where["id"]) or 0)
    columns = {"remoteJid": "remote_jid", "pushName": "push_name"}
    rows = rows.filter(**{column: where[name] for name, column in columns.items() if name in where})
    ids = _page(rows.order_by("-id"), (page - 1) * size, size)
    by_id = {contact.pk: contact for contact in readable(Contact.objects.filter(pk__in=ids))}
    return [by_id[pk] for pk in ids if pk in by_id]


def find_channels(instance: Instance, page: int, size: int) -> tuple[int, list[tuple[str, int]]]:
    """Return how many channels an instance wrote to, and a page of them with the times of its last messages there."""
    own = Message.objects.stored(instance).filter(remote_jid=OuterRef("remote_jid"), from_me=True)
    written_at = Subquery(own.order_by(*NEWEST_FIRST).values("timestamp")[:1])
    channels = Chat.objects.filter(instance=instance, remote_jid__endswith="@newsletter")
    written = channels.annotate(written_at=written_at).filter(Q(written_at__isnull=False))
    skip = (page - 1) * size
    rows = written.order_by("-written_at", "-id").values_list("remote_jid", "written_at")[skip : skip + size]
    return written.count(), list(rows)


def _page(rows: QuerySet[Any], skip: int, take: int) -> list[int]:
    """Return the ids of a page: found in an index, whatever stands in the rows before it."""
    return list(rows.values_list("pk", flat=True)[skip : skip + take])
