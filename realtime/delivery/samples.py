"""Sample data of each event type, for test events; the people and numbers in it are made up."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import orjson

from instances.api.timestamps import iso
from instances.events import EventType
from instances.models import Instance
from realtime.envelope import EventNumber, render

ANA = "5511911112222@s.whatsapp.net"
GROUP = "120363012345678901@g.us"


def sample(instance: Instance, event_type: EventType) -> dict[str, Any]:
    """Return a sample envelope with `test: true`; it is not in the log, so its `seq` is 0."""
    envelope = orjson.loads(render(instance, event_type, _data(instance)[event_type], EventNumber("test", 0, 0)))
    return envelope | {"id": f"test.{secrets.token_hex(8)}", "test": True}


def _data(instance: Instance) -> dict[EventType, Any]:
    return _instance_data(instance) | _message_data(instance) | _people_data(instance) | _other_data(instance)


def _instance_data(instance: Instance) -> dict[EventType, Any]:
    identity = {"instanceName": instance.name, "instanceId": str(instance.pk)}
    qrcode = {"instance": instance.name, "pairingCode": None, "code": "2@a-test,a-test", "base64": ""}
    return {
        EventType.APPLICATION_STARTUP: {"message": "Application startup", "mode": "server"},
        EventType.INSTANCE_CREATE: identity,
        EventType.INSTANCE_DELETE: identity,
        EventType.QRCODE_UPDATED: {"qrcode": qrcode},
        EventType.CONNECTION_UPDATE: {"instance": instance.name, "state": "open", "statusReason": 200},
        EventType.STATUS_INSTANCE: {"instance": instance.name, "status": "closed", "disconnectionReasonCode": 401},
        EventType.REMOVE_INSTANCE: None,
        EventType.LOGOUT_INSTANCE: None,
    }


def _message_data(instance: Instance) -> dict[EventType, Any]:
    now = datetime.now(UTC)
    own = {"instanceId": str(instance.pk)}
    key = {"remoteJid": ANA, "fromMe": False, "id": "3EB0A1B2C3D4E5F60718A0"}
    sent_key = {"remoteJid": ANA, "fromMe": True, "id": "3EB0C0FFEE0000000001A0"}
    message = {
        "key": key,
        "pushName": "Ana Lima",
        "status": "DELIVERY_ACK",
        "message": {"conversation": "Olá, vocês entregam no centro?"},
        "messageType": "conversation",
        "messageTimestamp": int(now.timestamp()),
        **own,
        "source": "unknown",
    }
    sent = message | {"key": sent_key, "status": "PENDING", "message": {"conversation": "Entregamos sim!"}}
    edit = {"type": "MESSAGE_EDIT", "timestampMs": str(int(now.timestamp() * 1000))}
    read = {"keyId": sent_key["id"], "remoteJid": ANA, "fromMe": True, "status": "READ", **own, "messageId": "1"}
    return {
        EventType.MESSAGES_SET: [message, sent],
        EventType.MESSAGES_UPSERT: message,
        EventType.MESSAGES_EDITED: {"key": key, "editedMessage": {"conversation": "Olá, e na zona sul?"}} | edit,
        EventType.MESSAGES_UPDATE: read,
        EventType.MESSAGES_DELETE: key,
        EventType.SEND_MESSAGE: sent,
        EventType.SEND_MESSAGE_UPDATE: {"key": sent_key, "editedMessage": {"conversation": "Até as 18h!"}} | edit,
    }


def _people_data(instance: Instance) -> dict[EventType, Any]:
    own = {"instanceId": str(instance.pk)}
    contact = {"remoteJid": ANA, "pushName": "Ana Lima", "profilePicUrl": None} | own
    chat = {"remoteJid": ANA, "name": "Ana Lima"} | own
    member = {"id": "55667788990011@lid", "phoneNumber": "5511955556666@s.whatsapp.net", "admin": None}
    group = {"id": GROUP, "subject": "Equipe Vendas", "owner": ANA, "size": 1, "participants": [member]}
    added = {"id": GROUP, "author": ANA, "participants": [member], "action": "add"}
    return {
        EventType.CONTACTS_SET: [contact],
        EventType.CONTACTS_UPSERT: [contact],
        EventType.CONTACTS_UPDATE: [contact],
        EventType.PRESENCE_UPDATE: {"id": ANA, "presences": {ANA: {"lastKnownPresence": "composing"}}},
        EventType.CHATS_SET: [chat],
        EventType.CHATS_UPDATE: [{"remoteJid": ANA} | own],
        EventType.CHATS_UPSERT: [chat | {"unreadMessages": 1}],
        EventType.CHATS_DELETE: [ANA],
        EventType.MESSAGING_HISTORY_SET: {"messageCount": 120, "chatCount": 9, "contactCount": 14, "progress": 100},
        EventType.GROUPS_UPSERT: [group],
        EventType.GROUPS_UPDATE: [{"id": GROUP, "subject": "Equipe Vendas", "author": ANA}],
        EventType.GROUP_PARTICIPANTS_UPDATE: added,
    }


def _other_data(instance: Instance) -> dict[EventType, Any]:
    call = {"chatId": ANA, "from": ANA, "id": "CALL0A1B2C3D4E5F", "date": iso(datetime.now(UTC)), "offline": False}
    bot = {"url": "https://bot.example.com", "typebot": "vendas", "variables": [], "sessionId": "1"}
    label = {"id": "5", "name": "Pago", "color": 3, "deleted": False, "predefinedId": "3", "instance": instance.name}
    return {
        EventType.CALL: call | {"status": "offer", "isVideo": False, "isGroup": False},
        EventType.TYPEBOT_START: {"remoteJid": ANA} | bot,
        EventType.TYPEBOT_CHANGE_STATUS: {"remoteJid": ANA, "status": "opened"},
        EventType.LABELS_EDIT: label,
        EventType.LABELS_ASSOCIATION: {"instance": instance.name, "type": "add", "chatId": ANA, "labelId": "5"},
        EventType.BUSINESS_UPDATE: {"field": "account_update", "value": {"event": "VERIFIED_ACCOUNT"}},
        EventType.ENDPOINT_DISABLED: {"endpoint": 1, "transport": "webhook", "reason": "It answered 410 Gone"},
        EventType.DELIVERIES_DROPPED: {"reason": "100,000 deliveries of this instance are pending, of 100,000 at most"},
    }
