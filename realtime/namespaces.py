"""Who may join a namespace, and what they may say there. One handler serves all: `/<instance name>` and `/`."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import socketio
from django.conf import settings
from rest_framework.exceptions import AuthenticationFailed
from socketio.exceptions import ConnectionRefusedError as Refusal

from instances.addresses import is_within
from instances.authentication import LISTEN, SEND, Access
from instances.errors import NotFound, Refused
from instances.models import Instance
from instances.providers.base import NotSent
from instances.sending import Sending
from realtime.database import Pool, database
from realtime.models import Event, Stream
from realtime.relay import Listener, Relay
from realtime.server import Server

logger = logging.getLogger(__name__)

UNAUTHORIZED = "Unauthorized"
INVALID_NAMESPACE = "Invalid namespace"

#: What clients may emit. Everything else is ignored: official clients emit `subscribe` and expect nothing.
CLIENT_EVENTS = {"send_message"}


@dataclass(frozen=True)
class Credentials:
    """The keys that a client presented, and where it comes from."""

    #: Every place that is filled; what is not a text cannot be a key.
    given: tuple[Any, ...]
    peer: str

    @classmethod
    def presented(cls, environ: dict[str, Any], auth: Any) -> Credentials:
        """From the header `apikey`, the query's `apikey` and Socket.IO's `auth`."""
        scope = environ["asgi.scope"]
        given: list[Any] = [value.decode(errors="replace") for name, value in scope["headers"] if name == b"apikey"]
        given += parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).get("apikey", [])
        if isinstance(auth, dict):
            given += [auth[place] for place in ("apikey", "token") if place in auth]
        elif auth is not None:
            given.append(auth)
        client = scope.get("client") or ("", 0)
        return cls(tuple(given), client[0])

    def accesses(self) -> list[Access]:
        """What they open. Raises Refusal unless every place that is filled holds a valid key."""
        if not self.given and is_within(self.peer, settings.WEBSOCKET_ALLOWED_HOSTS):
            return [Access(frozenset((LISTEN,)), is_for_all=True)]
        found = [Access.of(key) if isinstance(key, str) else None for key in self.given]
        valid = [access for access in found if access is not None]
        if not valid or len(valid) < len(found):
            raise Refusal(UNAUTHORIZED)
        return valid


@dataclass(frozen=True)
class Join:
    """A namespace that a client was let into, and the place in its log where its time begins."""

    instance_id: UUID | None
    position: Any
    accesses: tuple[Access, ...]

    @classmethod
    def authorise(cls, namespace: str, credentials: Credentials) -> Join:
        """Raises Refusal, in words that tell a stranger nothing of which names exist; reads the database."""
        accesses = tuple(credentials.accesses())
        may_listen = all(access.may(LISTEN) for access in accesses)
        if namespace == "/":
            if not may_listen or not all(access.is_for_all for access in accesses):
                raise Refusal(INVALID_NAMESPACE)
            return cls(None, Event.objects.head(), accesses)
        instance = _named(namespace.removeprefix("/"))
        if instance is None or not may_listen or not all(access.opens(instance) for access in accesses):
            raise Refusal(INVALID_NAMESPACE)
        return cls(instance.pk, Stream.objects.last_seq(instance.pk), accesses)

    def sending_instance(self, name: Any) -> Instance:
        """The instance that a message goes out from; `name` counts on `/` only. The keys are checked anew."""
        accesses = [access.renewed() for access in self.accesses]
        if not all(accesses):
            raise AuthenticationFailed
        if self.instance_id is None and not isinstance(name, str):
            raise Refused('instance requires property "instance"')
        instance = Instance.objects.filter(pk=self.instance_id).first() if self.instance_id else _named(name)
        if instance is None:
            raise NotFound(f'The "{name}" instance does not exist')
        if not all(access and access.opens(instance) for access in accesses):
            raise AuthenticationFailed
        if not all(access and access.may(SEND) for access in accesses):
            raise Refused("This key may not send", status_code=403)
        return instance


def _named(name: str) -> Instance | None:
    return Instance.objects.filter(name=name).first() if "\x00" not in name else None


@dataclass(frozen=True)
class Member:
    join: Join
    listener: Listener
    #: What one client sends goes out in its order.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Namespaces(socketio.AsyncNamespace):
    server: Server

    def __init__(self, relay: Relay) -> None:
        super().__init__("*")
        self.relay = relay
        self.members: dict[str, Member] = {}
        self._following: dict[str, asyncio.Task[None]] = {}

    async def trigger_event(self, event: str, *args: Any) -> Any:
        if event not in CLIENT_EVENTS | {"connect", "joined", "disconnect"}:
            return self.server.not_handled
        return await super().trigger_event(event, *args)

    async def on_connect(self, namespace: str, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        join = await database(Join.authorise, namespace, Credentials.presented(environ, auth))
        self.members[sid] = Member(join, Listener(sid, namespace, join.position))

    async def on_joined(self, namespace: str, sid: str) -> None:
        """CONNECT is on its way: from here on the client hears what happens."""
        member = self.members.get(sid)
        is_silent = namespace == "/" and not settings.WEBSOCKET_GLOBAL_EVENTS
        if member is None or is_silent or sid in self._following:
            return
        self._following[sid] = asyncio.get_running_loop().create_task(self._follow(member))

    async def _follow(self, member: Member) -> None:
        listener = member.listener
        try:
            if await self.relay.follow(listener, member.join.instance_id):
                room = str(member.join.instance_id or self.relay.whole.room)
                self.server.manager.basic_enter_room(listener.sid, listener.namespace, room)
        except Exception:
            logger.exception("A client could not be told what it missed; it is to come back")
            eio_sid = self.server.manager.eio_sid_from_sid(listener.sid, listener.namespace)
            if eio_sid:
                self.server.close_transport(eio_sid)

    async def on_disconnect(self, namespace: str, sid: str, reason: str = "") -> None:
        member = self.members.pop(sid, None)
        following = self._following.pop(sid, None)
        if following and following is not asyncio.current_task():  # which is sending this client away
            following.cancel()
        if member:
            self.relay.leave(member.listener, member.join.instance_id)

    async def on_send_message(self, namespace: str, sid: str, *args: Any) -> dict[str, Any]:
        """{number, text} as POST /message/sendText takes it; returns what that answers."""
        member = self.members[sid]
        body = args[0] if args else None
        if not isinstance(body, dict):
            raise Refused("send_message takes an object with a text and a number")
        if self.server.packet_class.data_is_binary(body):
            raise Refused("send_message takes no binary data")
        async with member.turn:
            return await self._send(member.join, body)

    async def _send(self, join: Join, body: dict[str, Any]) -> dict[str, Any]:
        sending = await database(self._begin, join, dict(body), pool=Pool.SENDS)
        if sending.is_repeat:
            return sending.message.as_event()
        try:
            wa_id = await sending.deliver()
        except NotSent as error:
            raise await database(sending.fail, error, pool=Pool.SENDS) from None
        return await database(sending.finish, wa_id, pool=Pool.SENDS)

    def _begin(self, join: Join, body: dict[str, Any]) -> Sending:
        instance = join.sending_instance(body.pop("instance", None))
        if "text" not in body and "message" in body:
            body["text"] = body.pop("message")
        if "number" not in body and instance.phone:
            body["number"] = instance.phone
        sending = Sending(instance, body)
        sending.begin()
        return sending
