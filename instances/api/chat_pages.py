"""Pages of an instance's chats, with their last messages, and of its contacts; newest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery

from instances.api.message_pages import NEWEST_FIRST, last_messages, within
from instances.api.records import ChatRecord, IsAmong, KnownContact, MessageRecord
from instances.bounds import PAGE_ROWS
from instances.models import Chat, Contact, Instance, Message
from instances.names import jid
from instances.numbers import whole_number
from instances.unreadable import readable


@dataclass(frozen=True)
class FoundChat:
    """A chat with the contact of its address and its last message, where they are known."""

    chat: ChatRecord
    contact: KnownContact | None
    message: MessageRecord | None


def find_chats(instance: Instance, where: dict[str, Any], skip: int, take: int | None) -> list[FoundChat]:
    """Return the chats with messages that match the filters of `where`, as `FindChatsBody` holds them."""
    rows = Chat.objects.filter(instance=instance, last_message_at__gt=0)
    if "remoteJid" in where:
        rows = rows.filter(_is_of(where["remoteJid"]))
    is_within = within(where.get("messageTimestamp", {}))
    messages = Message.objects.stored(instance).filter(is_within, remote_jid=OuterRef("remote_jid"))
    if is_within:
        rows = rows.filter(within({"gte": where["messageTimestamp"].get("gte", 0)}, "last_message_at"))
        rows = rows.filter(Exists(messages))
    ids = _page(rows.order_by("-last_message_at", "-id"), skip, take or PAGE_ROWS)
    newest = Subquery(messages.order_by(*NEWEST_FIRST).values("pk")[:1])
    chats = {
        chat.id: chat for chat in ChatRecord.of(Chat.objects.filter(IsAmong("id", ids)).annotate(newest_id=newest))
    }
    found = [chats[pk] for pk in ids if pk in chats]
    contacts = contacts_of(instance, [chat.remote_jid for chat in found])
    messages_by_id = last_messages(chat.newest_id for chat in found if chat.newest_id)
    return [FoundChat(chat, contacts.get(chat.remote_jid), messages_by_id.get(chat.newest_id or 0)) for chat in found]


def contacts_of(instance: Instance, jids: Iterable[str]) -> dict[str, KnownContact]:
    """Return the contacts with these addresses."""
    rows = KnownContact.of(Contact.objects.filter(IsAmong("remote_jid", jids), instance=instance))
    return {contact.remote_jid: contact for contact in rows}


def find_contacts(instance: Instance, where: dict[str, Any], page: int, size: int) -> list[Contact]:
    """Return a page of the contacts that match the filters of `where`, as `FindContactsBody` holds them."""
    rows = Contact.objects.filter(instance=instance)
    if "id" in where:
        # version 1, for which n8n's node is written, names a contact by its address
        is_address = "@" in where["id"]
        rows = rows.filter(**({"remote_jid": where["id"]} if is_address else {"pk": whole_number(where["id"]) or 0}))
    if "remoteJid" in where:
        rows = rows.filter(_is_of(where["remoteJid"]))
    if "pushName" in where:
        rows = rows.filter(push_name=where["pushName"])
    ids = _page(rows.order_by("-id"), (page - 1) * size, size)
    by_id = {contact.pk: contact for contact in readable(Contact.objects.filter(IsAmong("id", ids)))}
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


def _is_of(address: str) -> Q:
    """Return the condition that a row is of this address; a phone number means its address, as with Evolution API."""
    if "@" in address:
        return Q(remote_jid=address)
    return Q(remote_jid__in=[address, jid(address)])  # an engine's chat with it is stored as it was written


def _page(rows: QuerySet[Any], skip: int, take: int) -> list[int]:
    """Return the ids of a page: found in an index, whatever stands in the rows before it."""
    return list(rows.values_list("pk", flat=True)[skip : skip + take])
