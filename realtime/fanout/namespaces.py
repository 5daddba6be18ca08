"""Who may join a namespace, and what they may say there. One handler serves all: `/<instance name>` and `/`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import socketio
from django.conf import settings
from django.db import Error as DatabaseError
from django.utils import timezone

from instances.access.rate_limit import client_events
from instances.api.serializers import TextBody, validate
from instances.errors import ApiError
from instances.events import access_changed
from instances.models import AccessRevision
from instances.providers.base import NotSent
from instances.sending import Sending
from realtime.database import Batched, Pool, database
from realtime.fanout.authorization import (
    AuthorizationCache,
    Credentials,
    JoinRequest,
    Membership,
    NamespaceGrant,
    authorize_many,
    still_authorized_or_ending,
)
from realtime.fanout.feeds import Audience, Listener
from realtime.fanout.recovery import ResumeRequest
from realtime.fanout.relay import Relay
from realtime.socketio.server import Server

logger = logging.getLogger(__name__)

#: Seconds between two looks for changes of who may listen that another process made.
WATCH_INTERVAL = 1.0

#: What clients may emit. Everything else is ignored: official clients emit `subscribe` and expect nothing.
CLIENT_EVENTS = {"send_message"}


@dataclass(frozen=True)
class Member:
    join: Membership
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
        self._rechecking = asyncio.Lock()
        self._is_recheck_due = False
        #: Thousands who come back at once are let in by a few looks at the database.
        self._open = Batched(authorize_many)
        self._known = AuthorizationCache()

    async def trigger_event(self, event: str, *args: Any) -> Any:
        if event not in CLIENT_EVENTS | {"connect", "joined", "disconnect"}:
            return self.server.not_handled
        return await super().trigger_event(event, *args)

    async def on_connect(self, namespace: str, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        resume = ResumeRequest.from_auth(auth)
        join = (await self._grant(namespace, Credentials.from_request(environ, auth))).join(resume)
        audience = Audience(wants_offsets=resume.recover, events=resume.events)
        self.add(Member(join, Listener(sid, namespace, join.instance_id, join.start.position, audience)))
        if join.start.pid:
            self.server.connect_data[sid] = {"pid": join.start.pid}

    async def _grant(self, namespace: str, credentials: Credentials) -> NamespaceGrant:
        known = self._known.get(namespace, credentials)
        grant: NamespaceGrant = await self._open(JoinRequest(namespace, credentials, known))
        self._known.set(namespace, credentials, grant)
        for key in grant.keys_to_note:
            self.relay.spawn(database(key.record_use))
        return grant

    def add(self, member: Member) -> None:
        self.members[member.listener.sid] = member
        if member.join.expires_at:
            self._ends[member.listener.sid] = member.join.expires_at
        if member.join.revision != self.revision and not self._is_recheck_due:
            self._is_recheck_due = True
            self.relay.spawn(self.recheck_access(is_forced=True))  # it changed while this client was being authorised

    def remove(self, sid: str) -> Member | None:
        self._ends.pop(sid, None)
        return self.members.pop(sid, None)

    async def on_joined(self, namespace: str, sid: str) -> None:
        """CONNECT is on its way: from here on the client hears what happens."""
        member = self.members.get(sid)
        is_silent = namespace == "/" and not settings.WEBSOCKET_GLOBAL_EVENTS
        if member and not is_silent and sid not in self._following:
            self._follow(member.listener)

    def rewind(self, behind: list[tuple[str, str, Any]]) -> None:
        """The server dropped what these were owed: they are told from there on, when they take packets again."""
        for _, sid, place in behind:
            member = self.members.get(sid)
            if member and self.relay.rewind(member.listener, place):
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
            self.relay.remove_listener(member.listener)

    # Who may still listen

    async def recheck_access_forever(self) -> None:
        """Send away, within a second or two, whoever may not listen any more; runs for ever."""
        loop = asyncio.get_running_loop()

        def changed(**kwargs: Any) -> None:
            loop.call_soon_threadsafe(lambda: self.relay.spawn(self.recheck_access()))

        access_changed.connect(changed, weak=False, dispatch_uid=self)
        try:
            while True:
                await asyncio.sleep(WATCH_INTERVAL)
                now = timezone.now()
                await self.recheck_access(is_forced=any(end <= now for end in self._ends.values()))
        finally:
            access_changed.disconnect(dispatch_uid=self)

    async def recheck_access(self, is_forced: bool = False) -> None:
        """Ask the database about every member anew, if anything has changed since it was last asked."""
        async with self._rechecking:
            try:
                revision = await database(AccessRevision.current)
                if revision == self.revision and not is_forced:
                    return
                self._is_recheck_due = False
                members = list(self.members.values())
                asked = {joined for member in members for joined in member.join.listener_accesses}
                allowed = await database(still_authorized_or_ending, asked)
            except DatabaseError as error:
                logger.error("It is not known who may still listen; asking again soon: %s", error)
                return
            self.revision = revision
            for member in members:
                if not member.join.listener_accesses <= allowed and member.listener.sid in self.members:
                    await self._send_away(member)

    async def _send_away(self, member: Member) -> None:
        if member.leave:
            member.leave()
        else:
            await self.server.disconnect_listener(member.listener, flush=False)

    async def on_send_message(self, namespace: str, sid: str, *args: Any) -> dict[str, Any]:
        """{number, text} as POST /message/sendText takes it; returns what that answers."""
        member = self.members[sid]
        if not client_events.allows(member.join.accesses):
            raise ApiError("Too many messages with this key; try again later", status_code=429)
        body = args[0] if args else None
        if not isinstance(body, dict):
            raise ApiError("send_message takes an object with a text and a number")
        if self.server.packet_class.data_is_binary(body):
            raise ApiError("send_message takes no binary data")
        async with member.turn:
            return await self._send(member.join, body)

    async def _send(self, join: Membership, body: dict[str, Any]) -> dict[str, Any]:
        sending = await database(self._begin, join, dict(body), pool=Pool.SENDS)
        if sending.is_repeat:
            return sending.message.as_event()
        try:
            wa_id = await sending.deliver()
        except NotSent as error:
            raise await database(sending.fail, error, pool=Pool.SENDS) from None
        return await database(sending.finish, wa_id, pool=Pool.SENDS)

    def _begin(self, join: Membership, body: dict[str, Any]) -> Sending:
        instance = join.sending_instance(body.pop("instance", None))
        if "text" not in body and "message" in body:
            body["text"] = body.pop("message")
        if "number" not in body and instance.phone:
            body["number"] = instance.phone
        sending = Sending(instance, validate(TextBody(data=body)))
        sending.begin()
        return sending
