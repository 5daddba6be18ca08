"""The catalogue of event types: each stands here with all that is known of it, and nowhere else.

A new type is a member here, and the line that announces it. The schemas of Evolution API's types are in `schemas`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import TextChoices

from instances.events import schemas
from instances.events.emitters import (
    CLOUD_API,
    CONNECTION,
    CREATION,
    DELETION,
    DELIVERIES,
    EVOLUTION_CHANNEL,
    LOGOUT,
    PUBLISHING,
    SENDING,
    Emitter,
)
from instances.events.example import ANA, GROUP, Example
from instances.events.groups import EventGroup
from instances.events.json_schema import Schema
from instances.events.scrubbing import Scrubber, scrub_messages, scrub_protocol, scrub_state

Sample = Callable[[Example], Any]


def _type(
    value: str,
    group: EventGroup,
    description: str,
    sample: Sample,
    schema: Schema,
    emitters: tuple[Emitter, ...] = (),
    scrubber: Scrubber = scrub_state,
    is_subscribable: bool = True,
    is_publishable: bool = True,
) -> tuple[Any, ...]:
    """Return a member of EventType; Django takes the last text of a tuple for the label.

    `sample` returns made-up `data` for test events, `schema` is that of all `data`, `emitters` are those besides
    engines that publish it, `scrubber` removes secrets from the data of real events. Types that report this server's
    own state are not publishable.
    """
    is_publishable = is_subscribable and is_publishable
    emitters += (PUBLISHING,) if is_publishable else ()
    return value, group, sample, schema, emitters, scrubber, is_subscribable, is_publishable, description


class EventType(TextChoices):
    """The types of events: clients subscribe to a member's name and receive its value; its label describes it.

    Names and values are Evolution API's. Each type is announced in one place: `grep EventType.MESSAGES_UPSERT`.
    """

    group: EventGroup
    #: True if clients may subscribe to it.
    is_subscribable: bool
    #: True if a client may publish events of this type; the other types report this server's own state.
    is_publishable: bool
    #: The JSON Schema of `data`. What engines publish is passed on as it is: then it says what they should send.
    schema: Schema
    #: The programs that make events of this type; empty for those that Evolution API declares and never emits.
    emitters: tuple[Emitter, ...]
    _sample: Sample
    _scrubber: Scrubber

    def __new__(cls, value: str, *details: Any) -> EventType:
        member = str.__new__(cls, value)
        member._value_ = value
        member.group, member._sample, member.schema, member.emitters, member._scrubber = details[:5]
        member.is_subscribable, member.is_publishable = details[5:]
        return member

    APPLICATION_STARTUP = _type(
        "application.startup",
        EventGroup.INSTANCE,
        "The server has started.",
        lambda example: {"message": "Application startup", "mode": "server"},
        schemas.STARTUP,
        is_publishable=False,
    )
    INSTANCE_CREATE = _type(
        "instance.create",
        EventGroup.INSTANCE,
        "The instance was created.",
        lambda example: example.identity,
        schemas.IDENTITY,
        (CREATION,),
        is_publishable=False,
    )
    INSTANCE_DELETE = _type(
        "instance.delete",
        EventGroup.INSTANCE,
        "The instance was deleted.",
        lambda example: example.identity,
        schemas.IDENTITY,
        (DELETION,),
        is_publishable=False,
    )
    QRCODE_UPDATED = _type(
        "qrcode.updated",
        EventGroup.CONNECTION,
        "There is a new QR code to pair the phone with.",
        lambda example: {
            "qrcode": {"instance": example.name, "pairingCode": None, "code": "2@a-test,a-test", "base64": ""}
        },
        schemas.QRCODE,
    )
    CONNECTION_UPDATE = _type(
        "connection.update",
        EventGroup.CONNECTION,
        "The connection to WhatsApp has another state: open, connecting or close.",
        lambda example: {"instance": example.name, "state": "open", "statusReason": 200},
        schemas.CONNECTION,
        (CONNECTION,),
    )
    STATUS_INSTANCE = _type(
        "status.instance",
        EventGroup.CONNECTION,
        "The connection was closed, with the reason.",
        lambda example: {
            "instance": example.name,
            "status": "closed",
            "disconnectionAt": f"{example.at:%Y-%m-%dT%H:%M:%S}.000Z",
            "disconnectionReasonCode": 401,
            "disconnectionObject": None,
        },
        schemas.CLOSED,
        (LOGOUT,),
    )
    MESSAGES_SET = _type(
        "messages.set",
        EventGroup.MESSAGES,
        "Messages of before the pairing were loaded.",
        lambda example: [example.message, example.sent_message],
        schemas.HISTORY,
        (CLOUD_API,),
        scrub_messages,
    )
    MESSAGES_UPSERT = _type(
        "messages.upsert",
        EventGroup.MESSAGES,
        "A message was received, or sent from the phone itself.",
        lambda example: example.message,
        schemas.MESSAGE,
        (CLOUD_API, EVOLUTION_CHANNEL),
        scrub_messages,
    )
    MESSAGES_EDITED = _type(
        "messages.edited",
        EventGroup.MESSAGES,
        "A message was edited.",
        lambda example: example.edit(example.key, "Olá, e na zona sul?"),
        schemas.EDIT,
        (CLOUD_API,),
        scrub_protocol,
    )
    MESSAGES_UPDATE = _type(
        "messages.update",
        EventGroup.MESSAGES,
        "A message has another status, such as DELIVERED or READ.",
        lambda example: {
            "keyId": example.sent_key["id"],
            "remoteJid": ANA,
            "fromMe": True,
            "status": "READ",
            **example.own,
            "messageId": "1",
        },
        schemas.STATUSES,
        (CLOUD_API,),
        scrub_messages,
    )
    MESSAGES_DELETE = _type(
        "messages.delete",
        EventGroup.MESSAGES,
        "A message was deleted for everyone.",
        lambda example: example.key,
        schemas.DELETED,
        (CLOUD_API,),
        scrub_messages,
    )
    SEND_MESSAGE = _type(
        "send.message",
        EventGroup.MESSAGES,
        "A message was sent by this API.",
        lambda example: example.sent_message,
        schemas.MESSAGE,
        (SENDING,),
        scrub_messages,
    )
    SEND_MESSAGE_UPDATE = _type(
        "send.message.update",
        EventGroup.MESSAGES,
        "A message that this API had sent was edited.",
        lambda example: example.edit(example.sent_key, "Até as 18h!"),
        schemas.EDIT,
        (),
        scrub_protocol,
    )
    CONTACTS_SET = _type(
        "contacts.set",
        EventGroup.CONTACTS,
        "The contacts of before the pairing were loaded.",
        lambda example: [example.contact],
        schemas.CONTACT_LIST,
    )
    CONTACTS_UPSERT = _type(
        "contacts.upsert",
        EventGroup.CONTACTS,
        "A contact is new.",
        lambda example: [example.contact],
        schemas.CONTACTS,
        (CLOUD_API, EVOLUTION_CHANNEL),
    )
    CONTACTS_UPDATE = _type(
        "contacts.update",
        EventGroup.CONTACTS,
        "A contact has another name or picture.",
        lambda example: [example.contact],
        schemas.CONTACTS,
        (CLOUD_API, EVOLUTION_CHANNEL),
    )
    PRESENCE_UPDATE = _type(
        "presence.update",
        EventGroup.CHATS,
        "Somebody is typing, recording, online or away.",
        lambda example: {"id": ANA, "presences": {ANA: {"lastKnownPresence": "composing"}}},
        schemas.PRESENCE,
    )
    CHATS_SET = _type(
        "chats.set",
        EventGroup.CHATS,
        "The chats of before the pairing were loaded.",
        lambda example: [example.chat],
        schemas.CHAT_LIST,
    )
    CHATS_UPDATE = _type(
        "chats.update",
        EventGroup.CHATS,
        "A chat has changed.",
        lambda example: [{"remoteJid": ANA} | example.own],
        schemas.CHATS,
        (EVOLUTION_CHANNEL,),
    )
    CHATS_UPSERT = _type(
        "chats.upsert",
        EventGroup.CHATS,
        "A chat is new, or has new messages.",
        lambda example: [example.chat | {"unreadMessages": 1}],
        schemas.CHATS,
        (EVOLUTION_CHANNEL,),
    )
    CHATS_DELETE = _type(
        "chats.delete", EventGroup.CHATS, "A chat was deleted.", lambda example: [ANA], schemas.DELETED_CHATS
    )
    GROUPS_UPSERT = _type(
        "groups.upsert",
        EventGroup.GROUPS,
        "The instance is in a new group.",
        lambda example: [
            {"id": GROUP, "subject": "Equipe Vendas", "owner": ANA, "size": 1, "participants": [example.member]}
        ],
        schemas.GROUPS,
    )
    GROUPS_UPDATE = _type(
        "groups.update",
        EventGroup.GROUPS,
        "A group has another name, description or setting. Subscriptions may spell it GROUP_UPDATE, too.",
        lambda example: [{"id": GROUP, "subject": "Equipe Vendas", "author": ANA}],
        schemas.CHANGED_GROUPS,
    )
    GROUP_PARTICIPANTS_UPDATE = _type(
        "group-participants.update",
        EventGroup.GROUPS,
        "Members of a group were added, removed, promoted or demoted.",
        lambda example: {"id": GROUP, "author": ANA, "participants": [example.member], "action": "add"},
        schemas.PARTICIPANTS,
    )
    CALL = _type(
        "call",
        EventGroup.CALLS,
        "A call comes in, or its state has changed.",
        lambda example: {
            "chatId": ANA,
            "from": ANA,
            "id": "CALL0A1B2C3D4E5F",
            "date": f"{example.at:%Y-%m-%dT%H:%M:%S}.000Z",
            "offline": False,
            "status": "offer",
            "isVideo": False,
            "isGroup": False,
        },
        schemas.CALL,
        (CLOUD_API,),
    )
    TYPEBOT_START = _type(
        "typebot.start",
        EventGroup.TYPEBOT,
        "A Typebot flow has begun in a chat.",
        lambda example: {
            "remoteJid": ANA,
            "url": "https://bot.example.com",
            "typebot": "vendas",
            "variables": [],
            "sessionId": "1",
        },
        schemas.TYPEBOT_START,
    )
    TYPEBOT_CHANGE_STATUS = _type(
        "typebot.change-status",
        EventGroup.TYPEBOT,
        "A Typebot session was opened, paused or closed.",
        lambda example: {"remoteJid": ANA, "status": "opened"},
        schemas.TYPEBOT_STATUS,
    )
    LABELS_EDIT = _type(
        "labels.edit",
        EventGroup.LABELS,
        "A label was created, changed or deleted.",
        lambda example: {
            "id": "5",
            "name": "Pago",
            "color": 3,
            "deleted": False,
            "predefinedId": "3",
            "instance": example.name,
        },
        schemas.LABEL,
    )
    LABELS_ASSOCIATION = _type(
        "labels.association",
        EventGroup.LABELS,
        "A label was put on a chat, or taken off.",
        lambda example: {"instance": example.name, "type": "add", "chatId": ANA, "labelId": "5"},
        schemas.LABELED,
    )
    CREDS_UPDATE = _type(
        "creds.update",
        EventGroup.CONNECTION,
        "The keys of a session have changed: internal to engines, and sent to nobody.",
        lambda example: {},
        schemas.CREDENTIALS,
        is_subscribable=False,
    )
    MESSAGING_HISTORY_SET = _type(
        "messaging-history.set",
        EventGroup.MESSAGES,
        "The phone has sent a part of its history.",
        lambda example: {"messageCount": 120, "chatCount": 9, "contactCount": 14, "progress": 100},
        schemas.HISTORY_PART,
    )
    REMOVE_INSTANCE = _type(
        "remove.instance",
        EventGroup.INSTANCE,
        "The instance was deleted; no event comes after it.",
        lambda example: None,
        schemas.NOTHING,
        (DELETION,),
        is_publishable=False,
    )
    LOGOUT_INSTANCE = _type(
        "logout.instance",
        EventGroup.CONNECTION,
        "The instance was logged out of WhatsApp.",
        lambda example: None,
        schemas.NOTHING,
        (LOGOUT,),
    )

    # Not in Evolution API

    BUSINESS_UPDATE = _type(
        "business.update",
        EventGroup.BUSINESS,
        "Ours: any other change of the business account, as Meta reported it.",
        lambda example: {
            "field": "account_update",
            "value": {"event": "VERIFIED_ACCOUNT"},
            "businessId": "102290129340398",
        },
        schemas.BUSINESS,
        (CLOUD_API,),
    )
    ENDPOINT_DISABLED = _type(
        "endpoint.disabled",
        EventGroup.DELIVERIES,
        "Ours: a webhook or another endpoint was disabled, because it was gone or had failed for days.",
        lambda example: {"endpoint": 1, "transport": "webhook", "reason": "It answered 410 Gone"},
        schemas.ENDPOINT_DISABLED,
        (DELIVERIES,),
        is_publishable=False,
    )
    DELIVERIES_DROPPED = _type(
        "deliveries.dropped",
        EventGroup.DELIVERIES,
        "Ours: deliveries were not enqueued, because too many are pending or their transport is off.",
        lambda example: {"reason": "100,000 deliveries of this instance are pending, of 100,000 at most"},
        schemas.DROPPED,
        (DELIVERIES,),
        is_publishable=False,
    )

    @classmethod
    def named(cls, name: Any) -> EventType | None:
        """Return the type with this name or value, or None."""
        return _BY_NAME.get(name) if isinstance(name, str) else None

    def is_wanted_by(self, names: Iterable[str]) -> bool:
        """Return whether a subscription to these names includes this type; Evolution API spells one in two ways."""
        return self.name in names or (self is EventType.GROUPS_UPDATE and GROUP_UPDATE in names)

    def sample(self, example: Example) -> Any:
        """Return made-up `data` of this type."""
        return self._sample(example)

    def scrub(self, data: Any) -> Any:
        """Return a copy of `data` without keys and tokens, fit for a log with many readers."""
        return self._scrubber(data)


#: The spelling of GROUPS_UPDATE in Evolution API's settings.
GROUP_UPDATE = "GROUP_UPDATE"

_BY_NAME = {
    **{event_type.value: event_type for event_type in EventType},
    **{event_type.name: event_type for event_type in EventType},
    GROUP_UPDATE: EventType.GROUPS_UPDATE,
}
