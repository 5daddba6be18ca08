"""WhatsApp's Cloud API: Meta posts the events of all numbers to one URL; messages are sent through its Graph API.

Payloads: https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/components. All that Meta sends is announced:
members without a counterpart in Evolution API keep Meta's names.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from django.conf import settings

from instances.changes import CALLBACK_PREFIX, Change, InboundMessage, Notice, StatusReport
from instances.crypto import MASK
from instances.events import EventType
from instances.ingress.endpoint import IngressEndpoint
from instances.models import Instance
from instances.names import digits, is_user_id, jid
from instances.outbound.client import NoResponse, Unreachable, http_client
from instances.outbound_message import OutboundMessage
from instances.providers.base import NotSent, OutcomeUnknown, Provider, SendError, load_json
from instances.providers.cloud_api_graph import MAX_TEXT_LENGTH, GraphApi, GraphError, token_of, url_of
from instances.providers.cloud_api_ingress import MetaIngress
from instances.providers.cloud_api_messages import content_of
from instances.providers.cloud_api_sends import CALLBACK_DATA, FORMS, content_of_send, graph_message

logger = logging.getLogger(__name__)

#: Width of the column; Meta's statuses are much shorter.
MAX_STATUS_LENGTH = 32
#: The code of an error that the Graph API knows nothing about, itself.
#: https://developers.facebook.com/docs/graph-api/guides/error-handling
UNKNOWN_ERROR = 1
#: Digits of a phone number; E.164 allows 15.
MAX_PHONE_LENGTH = 32
#: Fields whose items are announced by events of their own alone.
_USUAL_FIELDS = {"", "messages", "message_echoes", "smb_message_echoes", "calls", "history"}


class CloudApi(Provider):
    integration = "WHATSAPP-BUSINESS"
    label = "WhatsApp Cloud API"
    members = {
        "token": "the access token of the Graph API",
        "number": "the phone number id",
        "businessId": "the id of the business account",
    }
    required = ("token", "number")
    unique = "number"
    token_is_credential = True
    callback_path = MetaIngress.path
    sent_status = "PENDING"
    reports_early = True
    graph = GraphApi()
    keeps_media = True
    unavailable = "Method not available on WhatsApp Business API"
    sends = FORMS.keys()

    @property
    def verify_token(self) -> str:
        return settings.WA_BUSINESS_TOKEN_WEBHOOK

    @property
    def endpoints(self) -> list[IngressEndpoint]:
        return [MetaIngress(self)]

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Change]:
        """Return the changes that all entries report, in Meta's order.

        A member that is not as Meta documents it does not keep the others from being announced: Meta would repeat all
        of them for days. It is announced as business.update where it has an addressee, and counted in the log.
        """
        payload = load_json(body)
        if payload.get("object") != "whatsapp_business_account":
            return []
        changes: list[Change] = []
        unread = Unread()
        for path, entry in unread.objects(payload, "entry", "entry"):
            reader = _Entry(entry, path)
            changes += reader.changes()
            unread.paths += reader.unread.paths
        if unread.paths:
            logger.warning("Members of Meta's payload could not be read: %s", unread)
        return changes

    def address(self, number: str) -> str:
        user = number.strip().removesuffix("@s.whatsapp.net")
        address = f"{user}@lid" if is_user_id(user) else jid(number)
        if not address.partition("@")[0]:
            raise ValueError("number is not a phone number")
        return address

    def content(self, message: OutboundMessage) -> tuple[str, dict[str, Any]]:
        return content_of_send(message)

    async def send(self, instance: Instance, message: OutboundMessage) -> str:
        """POST to /<phone number id>/messages of the Graph API."""
        try:
            token = token_of(instance)
        except GraphError as error:
            raise NotSent(error.message) from None
        url = url_of(f"{instance.number}/messages")
        try:
            status, response = await http_client.post(url, graph_message(message), {"Authorization": f"Bearer {token}"})
        except Unreachable as error:
            raised = OutcomeUnknown if error.is_sent else NotSent
            http_status = 504 if error.is_sent and isinstance(error, NoResponse) else 502
            raise raised(f"The Graph API did not answer ({error})", http_status) from None
        try:
            return _message_id(status, response)
        except SendError as error:
            # the Graph API repeats an invalid token in its error message
            explanation = error.message.replace(token, MASK)[:MAX_TEXT_LENGTH]
            raise type(error)(explanation, error.status) from None


def _message_id(status: int, response: bytes) -> str:
    """Return the message id in a response of the Graph API.

    Raises NotSent with the Graph API's own error text, and OutcomeUnknown for what is neither an id nor a refusal, such
    as the page of a proxy that lost its connection to it.
    """
    try:
        content = orjson.loads(response)
        if status < 300:
            return _accepted_id(content["messages"][0]["id"])
        error = content["error"]
        details = _object(error.get("error_data")).get("details")
        message = f"{error.get('message', 'refused')} (code {error.get('code')})" + (f": {details}" if details else "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        logger.warning("The Graph API answered %s with something unexpected", status)
        is_refused = 300 <= status < 500 and status != 303
        raised = NotSent if is_refused else OutcomeUnknown
        raise raised(f"The Graph API answered {status} with something unexpected", status=502) from None
    if status >= 500 and error.get("code") == UNKNOWN_ERROR:
        raise OutcomeUnknown(message, status=502)
    raise NotSent(message, status=502 if status >= 500 else 400)


def _accepted_id(given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise ValueError("The response has no message id")
    return _short(given)


class Unread:
    """The members of a payload that are not of the types that Meta documents; its text is for the log."""

    #: Paths that are named in the log.
    SHOWN = 3

    def __init__(self) -> None:
        self.paths: list[str] = []
        #: The members, under the names of the lists that they stand in.
        self.members: dict[str, list[Any]] = {}

    def __str__(self) -> str:
        more = ", …" if len(self.paths) > self.SHOWN else ""
        return f"{len(self.paths)} ({', '.join(self.paths[: self.SHOWN])}{more})"

    def add(self, name: str, member: Any, path: str) -> None:
        self.paths.append(path)
        self.members.setdefault(name, []).append(member)

    def objects(
        self, holder: dict[str, Any], name: str, path: str, required: bool = True
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the objects in a list of `holder`, with their paths; whatever is no object is added."""
        given = holder.get(name)
        if not isinstance(given, list):
            if required or given is not None:
                self.add(name, given, path)
            return
        for position, item in enumerate(given):
            if isinstance(item, dict):
                yield f"{path}[{position}]", item
            else:
                self.add(name, item, f"{path}[{position}]")


class _Entry:
    """An entry of a payload: changes of a business account, or of its numbers."""

    def __init__(self, entry: dict[str, Any], path: str) -> None:
        self.entry = entry
        self.path = path
        self.unread = Unread()

    def changes(self) -> list[Change]:
        found: list[Change] = []
        for path, change in self.unread.objects(self.entry, "changes", f"{self.path}.changes"):
            if not isinstance(change.get("value"), dict):
                self.unread.add("changes", change, f"{path}.value")
                continue
            value = _Value(self.entry, str(change.get("field") or ""), change["value"], f"{path}.value")
            found += value.changes()
            self.unread.paths += value.unread.paths
        if members := self.unread.members:
            business_id = _id_or_none(self.entry.get("id"))
            unreadable = {"unreadable": len(members["changes"])}
            data = {"field": None, "value": members, "businessId": business_id, **unreadable}
            key = f"{EventType.BUSINESS_UPDATE}:{_digest([self.entry.get('time'), members])}"
            found.append(
                Notice(event_type=EventType.BUSINESS_UPDATE, data=data, dedupe_key=key, business_id=business_id)
            )
        return found


class _Value:
    """A `value` of a payload: the report of a field, for a number or for the entire business account."""

    def __init__(self, entry: dict[str, Any], field: str, value: dict[str, Any], path: str) -> None:
        self.unread = Unread()
        metadata = _object(value.get("metadata"))
        if value.get("metadata") not in (None, metadata):
            self.unread.add("metadata", value["metadata"], f"{path}.metadata")
        self.number = _id_or_none(metadata.get("phone_number_id"))
        self.own_phone = digits(str(metadata.get("display_phone_number") or ""))[:MAX_PHONE_LENGTH] or None
        self.business_id = _id_or_none(entry.get("id"))
        self.time = entry.get("time")
        self.field = field
        self.value = value
        self.path = path
        contacts = list(self._items("contacts"))
        self.contacts = {id: c for c in contacts for name in ("wa_id", "user_id") if (id := _id_or_none(c.get(name)))}
        self.only_contact = contacts[0] if len(contacts) == 1 else None

    @property
    def _target(self) -> dict[str, Any]:
        return {"number": self.number} if self.number else {"business_id": self.business_id}

    def changes(self) -> list[Change]:
        found = [*self._messages(), *self._echoes(), *self._statuses(), *self._calls()]
        history = self._history()
        if history or self.value.get("history") == []:
            found.append(self._notice(EventType.MESSAGES_SET, history, of=self.value))
        unread = {"unreadable": len(self.unread.paths)} if self.unread.paths else {}
        if unread or not found:
            # beside others, the unread members alone
            value = self.unread.members if found else self.value
            data = {"field": self.field, "value": value, "businessId": self.business_id, **unread}
            found.append(self._notice(EventType.BUSINESS_UPDATE, data, of=value))
        return found

    def _notice(self, event_type: EventType, data: Any, of: Any) -> Notice:
        """Return a notice whose dedupe key is made of the content and the entry's time.

        Meta's retries have the same key; the same content at another time is another event.
        """
        digest = _digest([self.field, self.time, of])
        return Notice(event_type=event_type, data=data, dedupe_key=f"{event_type}:{digest}", **self._target)

    def _items(self, name: str) -> Iterator[dict[str, Any]]:
        for _, item in self.unread.objects(self.value, name, f"{self.path}.{name}", required=False):
            yield item

    def _messages(self) -> Iterator[Change]:
        for raw in self._items("messages"):
            yield self._message(raw, from_me=False)
            yield from self._corrections(raw, from_me=False)

    def _echoes(self) -> Iterator[Change]:
        """Yield the messages that the owner sent from the phone's own app."""
        for raw in self._items("message_echoes"):
            yield self._message(raw, from_me=True)
            yield from self._corrections(raw, from_me=True)

    def _message(self, raw: dict[str, Any], from_me: bool) -> InboundMessage:
        content = content_of(raw)
        contact = self.contacts.get(self._peer(raw, from_me)) or self.only_contact or {}
        remote_jid, participant = self._chat(raw, from_me)
        callback_data = _callback_data(raw) if from_me else None
        extra = {name: value for name, value in content.extra.items() if not callback_data or name != CALLBACK_DATA}
        extra |= self._surroundings(raw) | _contact_member(contact)
        return InboundMessage(
            id=_message_id_of(raw),
            remote_jid=remote_jid,
            remote_jid_alt=self._other_jid(raw, from_me, remote_jid),
            participant=participant,
            from_me=from_me,
            push_name=None if from_me else _profile_name(contact),
            type=content.type,
            content=content.message,
            context=content.context,
            timestamp=_seconds(raw.get("timestamp")),
            own_phone=self.own_phone,
            extra=extra,
            callback_data=callback_data,
            **self._target,
        )

    def _corrections(self, raw: dict[str, Any], from_me: bool) -> Iterator[Change]:
        """Yield the change that an edit or a revocation, itself a message, makes to an earlier message."""
        kind = raw.get("type")
        report = raw.get(kind) if kind in ("edit", "revoke") else None
        if not isinstance(report, dict) or not report.get("original_message_id"):
            return
        remote_jid, participant = self._chat(raw, from_me)
        key = {"remoteJid": remote_jid, "fromMe": from_me, "id": str(report["original_message_id"])}
        key |= {"participant": participant} if participant else {}
        dedupe_key = f"{kind}:{_message_id_of(raw)}"
        if kind == "revoke":
            yield Notice(event_type=EventType.MESSAGES_DELETE, data=key, dedupe_key=dedupe_key, **self._target)
            return
        edited = {
            "key": key,
            "type": "MESSAGE_EDIT",
            "editedMessage": content_of(_object(report.get("message"))).message,
            "timestampMs": str(_seconds(raw.get("timestamp")) * 1000),
        }
        yield Notice(event_type=EventType.MESSAGES_EDITED, data=edited, dedupe_key=dedupe_key, **self._target)

    def _statuses(self) -> Iterator[Change]:
        for raw in self._items("statuses"):
            if raw.get("type") == "call":
                yield self._notice(EventType.CALL, self._call(raw), of=raw)
                continue
            recipient = _person(raw, "recipient_id") or self._contact_id() or "unknown"
            is_group = raw.get("recipient_type") == "group"
            participant = _id_or_none(raw.get("recipient_participant_id"))
            contact = self.contacts.get(participant or recipient) or ({} if is_group else self.only_contact) or {}
            callback_data = _callback_data(raw)
            mapped = {"id", "status", "timestamp", "recipient_id", "recipient_type", "recipient_participant_id"}
            mapped |= {CALLBACK_DATA} if callback_data else set()
            yield StatusReport(
                id=_message_id_of(raw),
                remote_jid=f"{recipient}@g.us" if is_group else _jid(recipient),
                participant=_jid(participant) if participant else None,
                status=_short(raw.get("status") or "").upper()[:MAX_STATUS_LENGTH],
                extra={
                    "messageTimestamp": _seconds(raw.get("timestamp")),
                    **{name: value for name, value in raw.items() if name not in mapped},
                    **self._surroundings(raw),
                    **_contact_member(contact),
                },
                callback_data=callback_data,
                **self._target,
            )

    def _calls(self) -> Iterator[Change]:
        for raw in self._items("calls"):
            dedupe_key = _short(f"call:{raw.get('id')}:{raw.get('event')}:{raw.get('timestamp')}")
            data = self._call(raw) | self._surroundings(raw)
            yield Notice(event_type=EventType.CALL, data=data, dedupe_key=dedupe_key, **self._target)

    def _call(self, raw: dict[str, Any]) -> dict[str, Any]:
        caller = _person(raw, "from") or _person(raw, "recipient_id")
        people = (_person(raw, name) for name in ("from", "to", "recipient_id"))
        contact = next((self.contacts[person] for person in people if person in self.contacts), self.only_contact)
        known = {"chatId": _jid(caller) if caller else None, "status": raw.get("event") or raw.get("status")}
        return known | raw | _contact_member(contact or {})

    def _history(self) -> list[dict[str, Any]]:
        """Return the message objects of the history chunks; a chunk that reports an error stays as it is."""
        messages = []
        for path, chunk in self.unread.objects(self.value, "history", f"{self.path}.history", required=False):
            if not isinstance(chunk.get("threads"), list) or not chunk["threads"]:
                messages.append(chunk)
                continue
            for thread_path, thread in self.unread.objects(chunk, "threads", f"{path}.threads"):
                past = self.unread.objects(thread, "messages", f"{thread_path}.messages", required=False)
                messages += [self._past_message(thread, raw) for _, raw in past]
        return messages

    def _past_message(self, thread: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
        content = content_of(raw)
        key = {
            "remoteJid": _jid(_id_or_none(thread.get("id")) or "unknown"),
            "fromMe": digits(str(raw.get("from", ""))) == self.own_phone,
            "id": _message_id_of(raw),
        }
        data = {
            "key": key,
            "message": content.message,
            "contextInfo": content.context,
            "messageType": content.type,
            "messageTimestamp": _seconds(raw.get("timestamp")),
            "source": "unknown",
            "status": _object(raw.get("history_context")).get("status"),
        }
        return content.extra | {name: value for name, value in data.items() if value is not None}

    def _peer(self, raw: dict[str, Any], from_me: bool) -> str:
        """Return the other person's phone number or user id."""
        return _person(raw, "to" if from_me else "from") or self._contact_id() or "unknown"

    def _chat(self, raw: dict[str, Any], from_me: bool) -> tuple[str, str | None]:
        """Return the address of the chat and, in a group, that of the participant."""
        address = _jid(self._peer(raw, from_me))
        group = _id_or_none(raw.get("group_id"))
        return (f"{group}@g.us", address) if group else (address, None)

    def _other_jid(self, raw: dict[str, Any], from_me: bool, remote_jid: str) -> str | None:
        """Return the address of a person's user id, where the chat has that of the phone number."""
        contact = self.contacts.get(self._peer(raw, from_me)) or {}
        user = _id_or_none(raw.get("to_user_id" if from_me else "from_user_id")) or _id_or_none(contact.get("user_id"))
        return f"{user}@lid" if user and remote_jid.endswith("@s.whatsapp.net") else None

    def _contact_id(self) -> str | None:
        contact = self.only_contact or {}
        return _id_or_none(contact.get("wa_id")) or _id_or_none(contact.get("user_id"))

    def _surroundings(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return what stands around an item: `errors`, its own and those of the value, and a field of another name."""
        given = [errors for errors in (self.value.get("errors"), raw.get("errors")) if errors is not None]
        flat = [error for errors in given for error in (errors if isinstance(errors, list) else [errors])]
        field = {} if self.field in _USUAL_FIELDS else {"field": self.field}
        return field | ({"errors": flat} if given else {})


def _person(raw: dict[str, Any], name: str) -> str | None:
    """Return the person in this member: a phone number or, for people with a username, a business-scoped user id."""
    user = {"from": "from_user_id", "to": "to_user_id", "recipient_id": "recipient_user_id"}[name]
    return _id_or_none(raw.get(name)) or _id_or_none(raw.get(user))


def _jid(person: str) -> str:
    """Return a phone number's address or, for people without one, a user id's (`US.1349…`), an @lid to WhatsApp."""
    return jid(person) if person.lstrip("+").isdecimal() or "@" in person else f"{person}@lid"


def _message_id_of(raw: dict[str, Any]) -> str:
    """Return Meta's id or, where it is missing, a digest of the content, which is the same in a repeat."""
    given = raw.get("id")
    if isinstance(given, str) and given:
        return _short(given)
    return "unnamed." + _digest(raw)


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _short(text: Any, limit: int = 240) -> str:
    """Return the text with NUL characters replaced; one over `limit` characters ends in its digest, to stay unique."""
    text = str(text).replace("\x00", "�")
    return text if len(text) <= limit else f"{text[:170]}…{hashlib.sha256(text.encode()).hexdigest()}"


def _callback_data(raw: dict[str, Any]) -> str | None:
    """Return the callback data of a message that this server sent; that of other programs is theirs."""
    given = raw.get(CALLBACK_DATA)
    return given if isinstance(given, str) and given.startswith(CALLBACK_PREFIX) else None


def _contact_member(contact: dict[str, Any]) -> dict[str, Any]:
    """Return `{"contact": {…}}` with what Meta tells of a person besides name and phone, or {} if that is nothing.

    https://developers.facebook.com/docs/whatsapp/business-scoped-user-ids
    """
    profile = {name: value for name, value in _object(contact.get("profile")).items() if name != "name" and value}
    ids = {name: contact[name] for name in ("user_id", "parent_user_id") if contact.get(name)}
    return {"contact": profile | ids} if profile or ids else {}


def _profile_name(contact: dict[str, Any]) -> str | None:
    name = _object(contact.get("profile")).get("name")
    return name if isinstance(name, str) and name else None


def _seconds(timestamp: Any) -> int:
    """Return seconds since 1970, which Meta writes as a string of digits; the current time for an invalid value."""
    try:
        return min(max(int(timestamp), 0), 2**62)
    except (TypeError, ValueError, OverflowError):
        return int(time.time())


def _id_or_none(value: Any) -> str | None:
    """Return an id of Meta's as a string that fits a column; some of its payloads have numbers."""
    return _short(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "" else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
