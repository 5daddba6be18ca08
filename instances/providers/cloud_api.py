"""WhatsApp's Cloud API: Meta posts what happens to one address for all numbers, and sends through its Graph API.

Payloads: https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/components. Whatever Meta sends is told on:
what has no name in Evolution API's vocabulary stays under Meta's own.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from django.conf import settings

from instances import http
from instances.events import EventType
from instances.models import Instance, Integration
from instances.names import digits, jid
from instances.providers.base import (
    Change,
    InboundMessage,
    InvalidPayload,
    Notice,
    NotSent,
    OutgoingText,
    Provider,
    StatusReport,
    load_json,
)
from instances.providers.cloud_api_messages import content_of

logger = logging.getLogger(__name__)


def is_signed(body: bytes, signature: str, app_secret: str) -> bool:
    """Whether X-Hub-Signature-256 is Meta's signature of exactly these bytes: HMAC-SHA-256 under the app secret."""
    expected = "sha256=" + hmac.new(app_secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))


class CloudApi(Provider):
    integration = Integration.CLOUD_API
    sent_status = "PENDING"

    def check_new(self, instance: Instance) -> None:
        if not instance.provider_token:
            raise ValueError("token is required")
        if not instance.number:
            raise ValueError("number is required")

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Change]:
        """Every entry, every change in it and everything in each change, in Meta's order."""
        payload = load_json(body)
        if payload.get("object") != "whatsapp_business_account":
            return []
        changes: list[Change] = []
        for position, entry in enumerate(_list(payload, "entry", "entry")):
            path = f"entry[{position}]"
            for number, change in enumerate(_list(_is_object(entry, path), "changes", f"{path}.changes")):
                value_path = f"{path}.changes[{number}]"
                value = _is_object(_is_object(change, value_path).get("value"), f"{value_path}.value")
                changes += _Value(entry.get("id"), str(change.get("field", "")), value, value_path).changes()
        return changes

    def address(self, number: str) -> str:
        address = jid(number)
        if not address.partition("@")[0]:
            raise ValueError("number is not a phone number")
        return address

    async def send_text(self, instance: Instance, text: OutgoingText) -> str:
        """POST /<phone number id>/messages, as https://developers.facebook.com/docs/whatsapp/cloud-api/messages/text-messages."""
        if instance.provider_token is None:
            raise NotSent("The instance has no token for the Graph API")
        url = f"{settings.WA_BUSINESS_URL}/{settings.WA_BUSINESS_VERSION}/{instance.number}/messages"
        headers = {"Authorization": f"Bearer {instance.provider_token.reveal()}"}
        try:
            status, answer = await http.client.post(url, _text_message(text), headers)
        except http.Unreachable as error:
            raise NotSent(f"The Graph API did not answer ({error})", status=502) from None
        return _message_id(status, answer)


def _text_message(text: OutgoingText) -> dict[str, Any]:
    user, _, server = text.remote_jid.partition("@")
    message = {
        "messaging_product": "whatsapp",
        "recipient_type": "group" if server == "g.us" else "individual",
        # people without a phone number are addressed by their business-scoped user id
        **({"recipient": user} if server == "lid" else {"to": user}),
        "type": "text",
        "text": {"body": text.text, "preview_url": text.link_preview},
    }
    if text.quoted:
        message["context"] = {"message_id": text.quoted["key"]["id"]}
    return message


def _message_id(status: int, answer: bytes) -> str:
    """The id in a Graph answer; raises NotSent with Graph's own explanation of a refusal."""
    try:
        content = orjson.loads(answer)
        if status < 300:
            return str(content["messages"][0]["id"])
        error = content["error"]
        details = (error.get("error_data") or {}).get("details")
        message = f"{error.get('message', 'refused')} (code {error.get('code')})" + (f": {details}" if details else "")
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
        logger.warning("The Graph API answered %s with something unexpected", status)
        raise NotSent(f"The Graph API answered {status} with something unexpected", status=502) from None
    raise NotSent(message, status=502 if status >= 500 else 400)


class _Value:
    """One `value` of a payload: what a field of one number, or of the whole business, reports."""

    def __init__(self, business_id: Any, field: str, value: dict[str, Any], path: str) -> None:
        metadata = value.get("metadata") if isinstance(value.get("metadata"), dict) else {}
        self.number = _text_or_none(metadata.get("phone_number_id"))
        self.own_phone = digits(str(metadata.get("display_phone_number") or "")) or None
        self.business_id = _text_or_none(business_id)
        self.field = field
        self.value = value
        self.path = path
        contacts = [c for c in value.get("contacts") or [] if isinstance(c, dict)]
        self.contacts = {c[name]: c for c in contacts for name in ("wa_id", "user_id") if c.get(name)}
        self.only_contact = contacts[0] if len(contacts) == 1 else None

    @property
    def where(self) -> dict[str, str | None]:
        return {"number": self.number} if self.number else {"business_id": self.business_id}

    def changes(self) -> list[Change]:
        found = [*self._messages(), *self._echoes(), *self._statuses(), *self._calls()]
        if "history" in self.value:
            found.append(self._notice(EventType.MESSAGES_SET, self._history()))
        if not found:
            told = {"field": self.field, "value": self.value, "businessId": self.business_id}
            found.append(self._notice(EventType.BUSINESS_UPDATE, told))
        return found

    def _notice(self, event_type: EventType, data: Any) -> Notice:
        mark = hashlib.sha256(orjson.dumps([self.field, self.value], option=orjson.OPT_SORT_KEYS)).hexdigest()
        return Notice(event_type=event_type, data=data, dedupe_key=f"{event_type}:{mark}", **self.where)

    def _items(self, name: str) -> Iterator[dict[str, Any]]:
        for position, item in enumerate(_list(self.value, name, f"{self.path}.value.{name}", required=False)):
            yield _is_object(item, f"{self.path}.value.{name}[{position}]")

    def _messages(self) -> Iterator[Change]:
        for raw in self._items("messages"):
            yield self._message(raw, from_me=False)
            yield from self._corrections(raw, from_me=False)

    def _echoes(self) -> Iterator[Change]:
        """Messages that the owner sent from the phone's own app."""
        for raw in self._items("message_echoes"):
            yield self._message(raw, from_me=True)
            yield from self._corrections(raw, from_me=True)

    def _message(self, raw: dict[str, Any], from_me: bool) -> InboundMessage:
        content = content_of(raw)
        sender = _person(raw, "to" if from_me else "from") or self._contact_id() or "unknown"
        contact = self.contacts.get(sender) or self.only_contact or {}
        group = _text_or_none(raw.get("group_id"))
        extra = dict(content.extra)
        if isinstance(self.value.get("errors"), list):
            extra["errors"] = self.value["errors"] + extra.get("errors", [])
        if user := {name: contact[name] for name in ("user_id", "parent_user_id") if contact.get(name)}:
            extra["contact"] = user
        return InboundMessage(
            id=_message_id_of(raw),
            remote_jid=f"{_short(group)}@g.us" if group else _jid(sender),
            participant=_jid(sender) if group else None,
            from_me=from_me,
            push_name=None if from_me else _profile_name(contact),
            type=content.type,
            content=content.message,
            context=content.context,
            timestamp=_seconds(raw.get("timestamp")),
            own_phone=self.own_phone,
            extra=extra,
            **self.where,
        )

    def _corrections(self, raw: dict[str, Any], from_me: bool) -> Iterator[Change]:
        """Besides being messages of their own, an edit and a revocation say something about an earlier one."""
        kind = raw.get("type")
        report = raw.get(kind) if kind in ("edit", "revoke") else None
        if not isinstance(report, dict) or not report.get("original_message_id"):
            return
        sender = _person(raw, "to" if from_me else "from") or self._contact_id() or "unknown"
        key = {"remoteJid": _jid(sender), "fromMe": from_me, "id": str(report["original_message_id"])}
        dedupe_key = f"{kind}:{_message_id_of(raw)}"
        if kind == "revoke":
            yield Notice(event_type=EventType.MESSAGES_DELETE, data=key, dedupe_key=dedupe_key, **self.where)
            return
        new = report.get("message") if isinstance(report.get("message"), dict) else {}
        edited = {
            "key": key,
            "type": "MESSAGE_EDIT",
            "editedMessage": content_of(new).message,
            "timestampMs": str(_seconds(raw.get("timestamp")) * 1000),
        }
        yield Notice(event_type=EventType.MESSAGES_EDITED, data=edited, dedupe_key=dedupe_key, **self.where)

    def _statuses(self) -> Iterator[Change]:
        for raw in self._items("statuses"):
            if raw.get("type") == "call" or not raw.get("id"):
                yield self._notice(EventType.CALL, _call(raw))
                continue
            recipient = _person(raw, "recipient_id") or self._contact_id() or "unknown"
            is_group = raw.get("recipient_type") == "group"
            participant = _text_or_none(raw.get("recipient_participant_id"))
            told = ("id", "status", "timestamp", "recipient_id", "recipient_type", "recipient_participant_id")
            yield StatusReport(
                id=_short(raw["id"]),
                remote_jid=f"{_short(recipient)}@g.us" if is_group else _jid(recipient),
                participant=_jid(participant) if participant else None,
                status=str(raw.get("status", "")).upper()[:32],
                extra={
                    "messageTimestamp": _seconds(raw.get("timestamp")),
                    **{name: value for name, value in raw.items() if name not in told},
                },
                **self.where,
            )

    def _calls(self) -> Iterator[Change]:
        for raw in self._items("calls"):
            mark = f"call:{raw.get('id')}:{raw.get('event')}:{raw.get('timestamp')}"
            told = _call(raw)
            if isinstance(self.value.get("errors"), list):
                told["errors"] = self.value["errors"]
            yield Notice(event_type=EventType.CALL, data=told, dedupe_key=mark, **self.where)

    def _history(self) -> list[dict[str, Any]]:
        """The message objects of a history chunk; a chunk that reports an error instead is told as it is."""
        told = []
        for chunk in self._items("history"):
            if not isinstance(chunk.get("threads"), list):
                told.append(chunk)
            for thread in chunk.get("threads") or []:
                told += [self._past_message(thread, raw) for raw in thread.get("messages") or []]
        return told

    def _past_message(self, thread: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
        content = content_of(raw)
        key = {
            "remoteJid": _jid(str(thread.get("id", "unknown"))),
            "fromMe": digits(str(raw.get("from", ""))) == self.own_phone,
            "id": _message_id_of(raw),
        }
        told = {
            "key": key,
            "message": content.message,
            "contextInfo": content.context,
            "messageType": content.type,
            "messageTimestamp": _seconds(raw.get("timestamp")),
            "source": "unknown",
            "status": (raw.get("history_context") or {}).get("status"),
            **content.extra,
        }
        return {name: value for name, value in told.items() if value is not None}

    def _contact_id(self) -> str | None:
        contact = self.only_contact or {}
        return _text_or_none(contact.get("wa_id") or contact.get("user_id"))


def _person(raw: dict[str, Any], name: str) -> str | None:
    """Who is named: a phone number or, for people with a username, their business-scoped user id."""
    user = {"from": "from_user_id", "to": "to_user_id", "recipient_id": "recipient_user_id"}[name]
    return _text_or_none(raw.get(name) or raw.get(user))


def _jid(person: str) -> str:
    """A phone number's address. Whoever has none is known by a user id (`US.1349…`), which WhatsApp addresses as @lid."""
    return jid(person) if person.lstrip("+").isdecimal() or "@" in person else f"{_short(person)}@lid"


def _call(raw: dict[str, Any]) -> dict[str, Any]:
    caller = _person(raw, "from") or _person(raw, "recipient_id")
    return {"chatId": _jid(caller) if caller else None, "status": raw.get("event") or raw.get("status"), **raw}


def _message_id_of(raw: dict[str, Any]) -> str:
    """Meta's id, or one made of the content where it is missing: a repeat has the same."""
    given = raw.get("id")
    if isinstance(given, str) and given:
        return _short(given)
    return "unnamed." + hashlib.sha256(orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _short(text: Any, limit: int = 240) -> str:
    """The text as a column holds it; one too long keeps its difference from others as a digest."""
    text = str(text).replace("\x00", "�")
    return text if len(text) <= limit else f"{text[:170]}…{hashlib.sha256(text.encode()).hexdigest()}"


def _profile_name(contact: dict[str, Any]) -> str | None:
    profile = contact.get("profile")
    return _text_or_none(profile.get("name")) if isinstance(profile, dict) else None


def _seconds(timestamp: Any) -> int:
    """Seconds since 1970; Meta writes them as a text of digits."""
    try:
        return min(max(int(timestamp), 0), 2**62)
    except (TypeError, ValueError, OverflowError):
        return int(time.time())


def _text_or_none(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "" else None


def _list(holder: dict[str, Any], name: str, path: str, required: bool = True) -> list[Any]:
    value = holder.get(name)
    if value is None and not required:
        return []
    if not isinstance(value, list):
        raise InvalidPayload(f"{path} is not of a type(s) array")
    return value


def _is_object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidPayload(f"{path} is not of a type(s) object")
    return value
