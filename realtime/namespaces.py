"""Who may join a namespace, and what they may say there. One handler serves all: `/<instance name>` and `/`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import socketio
from django.conf import settings
from django.db import Error as DatabaseError
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed
from socketio.exceptions import ConnectionRefusedError as Refusal

from instances.addresses import client_address, is_within
from instances.authentication import LISTEN, SEND, Access, Joined, still_listening
from instances.errors import NotFound, Refused
from instances.events import access_changed
from instances.models import AccessRevision, Instance
from instances.providers.base import NotSent
from instances.sending import Sending
from instances.throttling import client_events, failed_authentications
from realtime.database import Pool, Shared, database
from realtime.feeds import Audience, Listener
from realtime.recovery import Beginning, Stretch, Wish
from realtime.relay import Relay
from realtime.server import Server, TryLater

logger = logging.getLogger(__name__)

UNAUTHORIZED = "Unauthorized"
INVALID_NAMESPACE = "Invalid namespace"

#: Seconds between two looks for changes of who may listen that another process made.
WATCH_INTERVAL = 1.0

#: What clients may emit. Everything else is ignored: official clients emit `subscribe` and expect nothing.
CLIENT_EVENTS = {"send_message"}


@dataclass(frozen=True)
class Credentials:
    """The keys that a client presented, and where it comes from."""

    #: Every place for keys that is filled; what is not a text cannot be one.
    keys: tuple[Any, ...]
    #: The same for minted tokens.
    tokens: tuple[Any, ...]
    peer: str
    #: The client's address: the peer's, or what trusted proxies say.
    address: str = ""

    @classmethod
    def presented(cls, environ: dict[str, Any], auth: Any) -> Credentials:
        """From the header `apikey`, the query's `apikey` and Socket.IO's `auth`."""
        scope = environ["asgi.scope"]
        given: list[Any] = [value.decode(errors="replace") for name, value in scope["headers"] if name == b"apikey"]
        given += parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).get("apikey", [])
        tokens = []
        if isinstance(auth, dict):
            given += [auth["apikey"]] if "apikey" in auth else []
            tokens += [auth["token"]] if "token" in auth else []
        elif auth is not None:
            given.append(auth)
        peer = (scope.get("client") or ("", 0))[0]
        address = client_address(peer, environ.get("HTTP_X_FORWARDED_FOR", ""))
        return cls(tuple(given), tuple(tokens), peer, address)

    def accesses(self) -> list[Access]:
        """What they open. Raises Refusal unless every place that is filled holds a valid key."""
        if not (self.keys or self.tokens) and is_within(self.peer, settings.WEBSOCKET_ALLOWED_HOSTS):
            return [Access(frozenset((LISTEN,)), is_for_all=True)]
        found = [Access.of(key) if isinstance(key, str) else None for key in self.keys]
        found += [Access.of_minted(token) if isinstance(token, str) else None for token in self.tokens]
        valid = [access for access in found if access is not None]
        if not valid or len(valid) < len(found):
            if not failed_authentications.takes(self.address):
                raise TryLater
            raise Refusal(UNAUTHORIZED)
        return valid


@dataclass(frozen=True)
class Door:
    """A namespace that is open to whoever presents what was presented, by a reading of the database."""

    stretch: Stretch
    accesses: tuple[Access, ...]
    #: Of who may hear what, read before anything else: a change after it is seen later.
    revision: int
    instance_id: UUID | None = None
    name: str | None = None

    @classmethod
    def open(cls, namespace: str, credentials: Credentials) -> Door:
        """Raises Refusal, in words that tell a stranger nothing of which names exist; reads the database."""
        revision = AccessRevision.current()
        accesses = tuple(credentials.accesses())
        may_listen = all(access.may(LISTEN) for access in accesses)
        if namespace == "/":
            if not may_listen or not all(access.is_for_all for access in accesses):
                raise Refusal(INVALID_NAMESPACE)
            return cls(Stretch.of_all(), accesses, revision)
        instance = _named(namespace.removeprefix("/"))
        if instance is None or not may_listen or not all(access.opens(instance) for access in accesses):
            raise Refusal(INVALID_NAMESPACE)
        stretch = Stretch.of_instance(instance.pk)
        if not Instance.objects.filter(pk=instance.pk).exists():
            raise Refusal(INVALID_NAMESPACE)  # deleted just now: its last events may lie before our beginning
        return cls(stretch, accesses, revision, instance.pk, instance.name)

    def join(self, wish: Wish) -> Join:
        return Join(self.instance_id, self.stretch.begin(wish), self.accesses, self.revision, self.name)


@dataclass(frozen=True)
class Join:
    """A namespace that a client was let into, and the place in its log where its time begins."""

    instance_id: UUID | None
    begin: Beginning
    accesses: tuple[Access, ...]
    revision: int
    #: The instance's name; None for `/`.
    name: str | None = None

    @classmethod
    def authorise(cls, namespace: str, credentials: Credentials, wish: Wish) -> Join:
        """Raises Refusal; reads the database."""
        return Door.open(namespace, credentials).join(wish)

    @property
    def joined(self) -> set[Joined]:
        """What `still_listening` is asked about it."""
        return {(access, self.instance_id, self.name) for access in self.accesses}

    @property
    def expires_at(self) -> datetime | None:
        return min((access.expires_at for access in self.accesses if access.expires_at), default=None)

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


def _still_let_in(asked: set[Joined]) -> set[Joined]:
    """Those that may still listen, and those whose instance is gone: they hear its last events, and leave with them."""
    let_in = still_listening(asked)
    ids = {instance_id for _, instance_id, _ in asked - let_in if instance_id}
    kept = set(Instance.objects.filter(pk__in=ids).values_list("pk", flat=True))
    return let_in | {joined for joined in asked if joined[1] is not None and joined[1] in ids - kept}


def _named(name: str) -> Instance | None:
    return Instance.objects.filter(name=name).first() if "\x00" not in name else None


@dataclass(frozen=True)
class Member:
    join: Join
    listener: Listener
    #: What one client sends goes out in its order.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Ends it, where it is no socket.
    leave: Callable[[], Any] | None = None


class Namespaces(socketio.AsyncNamespace):
    server: Server

    def __init__(self, relay: Relay) -> None:
        super().__init__("*")
        self.relay = relay
        self.members: dict[str, Member] = {}
        #: When the keys of some of them end.
        self._ends: dict[str, datetime] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        #: Of who may hear what: the members were looked at under this one.
        self.revision = 0
        self._looking = asyncio.Lock()
        self._is_look_due = False
        #: Thousands who come back at once with the same key are let in by one look at the database.
        self._shared = Shared()

    async def trigger_event(self, event: str, *args: Any) -> Any:
        if event not in CLIENT_EVENTS | {"connect", "joined", "disconnect"}:
            return self.server.not_handled
        return await super().trigger_event(event, *args)

    async def on_connect(self, namespace: str, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        wish = Wish.of(auth)
        door = await self._shared(Door.open, namespace, Credentials.presented(environ, auth))
        join = door.join(wish)
        audience = Audience(wants_offsets=wish.recover, events=wish.events)
        self.add(Member(join, Listener(sid, namespace, join.instance_id, join.begin.position, audience)))
        if join.begin.pid:
            self.server.connect_data[sid] = {"pid": join.begin.pid}

    def add(self, member: Member) -> None:
        self.members[member.listener.sid] = member
        if member.join.expires_at:
            self._ends[member.listener.sid] = member.join.expires_at
        if member.join.revision != self.revision and not self._is_look_due:
            self._is_look_due = True
            self.relay.spawn(self.look_again(is_forced=True))  # it changed while this client was being authorised

    def remove(self, sid: str) -> Member | None:
        self._ends.pop(sid, None)
        return self.members.pop(sid, None)

    async def on_joined(self, namespace: str, sid: str) -> None:
        """CONNECT is on its way: from here on the client hears what happens."""
        member = self.members.get(sid)
        is_silent = namespace == "/" and not settings.WEBSOCKET_GLOBAL_EVENTS
        if member and not is_silent and sid not in self._following:
            self._follow(member.listener)

    def set_back(self, behind: list[tuple[str, str, Any]]) -> None:
        """The server dropped what these were owed: they are told from there on, when they take packets again."""
        for _, sid, place in behind:
            member = self.members.get(sid)
            if member and self.relay.set_back(member.listener, place):
                self._follow(member.listener)

    def _follow(self, listener: Listener) -> None:
        task = self._following[listener.sid] = self.relay.spawn(self._tell(listener))
        task.add_done_callback(
            lambda done: self._following.get(listener.sid) is done and self._following.pop(listener.sid)
        )

    async def _tell(self, listener: Listener) -> None:
        try:
            await self.relay.follow(listener)
        except Exception:
            logger.exception("A client could not be told what it missed; it is to come back")
            eio_sid = self.server.manager.eio_sid_from_sid(listener.sid, listener.namespace)
            if eio_sid:
                self.server.close_transport(eio_sid)

    async def on_disconnect(self, namespace: str, sid: str, reason: str = "") -> None:
        self.server.connect_data.pop(sid, None)
        member = self.remove(sid)
        following = self._following.pop(sid, None)
        if following and following is not asyncio.current_task():  # which is sending this client away
            following.cancel()
        if member:
            self.relay.leave(member.listener)

    # Who may still listen

    async def watch(self) -> None:
        """Send away, within a second or two, whoever may not listen any more; runs for ever."""
        loop = asyncio.get_running_loop()

        def changed(**kwargs: Any) -> None:
            loop.call_soon_threadsafe(lambda: self.relay.spawn(self.look_again()))

        access_changed.connect(changed, weak=False, dispatch_uid=self)
        try:
            while True:
                await asyncio.sleep(WATCH_INTERVAL)
                now = timezone.now()
                await self.look_again(is_forced=any(end <= now for end in self._ends.values()))
        finally:
            access_changed.disconnect(dispatch_uid=self)

    async def look_again(self, is_forced: bool = False) -> None:
        """Ask the database about every member anew, if anything has changed since it was last asked."""
        async with self._looking:
            try:
                revision = await database(AccessRevision.current)
                if revision == self.revision and not is_forced:
                    return
                self._is_look_due = False
                members = list(self.members.values())
                asked = {joined for member in members for joined in member.join.joined}
                allowed = await database(_still_let_in, asked)
            except DatabaseError as error:
                logger.error("It is not known who may still listen; asking again soon: %s", error)
                return
            self.revision = revision
            for member in members:
                if not member.join.joined <= allowed and member.listener.sid in self.members:
                    await self._send_away(member)

    async def _send_away(self, member: Member) -> None:
        if member.leave:
            member.leave()
        else:
            await self.server.cut(member.listener, is_owed=False)

    async def on_send_message(self, namespace: str, sid: str, *args: Any) -> dict[str, Any]:
        """{number, text} as POST /message/sendText takes it; returns what that answers."""
        member = self.members[sid]
        if not client_events.takes(member.join.accesses):
            raise Refused("Too many messages with this key; try again later", status_code=429)
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
