"""The handler of all Socket.IO namespaces, `/<instance name>` and `/`: joining, leaving and `send_message`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import socketio
from django.conf import settings
from django.utils import timezone
from socketio.exceptions import ConnectionRefusedError

from instances import errors
from instances.access.rate_limit import client_events
from instances.api.message_bodies import TextBody
from instances.api.serializers import validate
from instances.errors import ApiError
from instances.events import access_changed
from instances.models import AccessRevision
from instances.outbound_message import MessageKind
from instances.sending import Sending
from realtime.database import Batched, Pool, database
from realtime.fanout.authorization import (
    ATTEMPTS,
    AuthorizationCache,
    Credentials,
    JoinRequest,
    Membership,
    NamespaceGrant,
    authorize_many,
    still_authorized_or_ending,
)
from realtime.fanout.feeds import Audience, Listener
from realtime.fanout.options import InvalidOption
from realtime.fanout.recovery import ResumeRequest, Since, beyond, require_position
from realtime.fanout.relay import Relay
from realtime.socketio.handshake import Client, Handshake
from realtime.socketio.packets import Dropped
from realtime.socketio.server import Server, TryLater
from realtime.wire.turn import turn_of

logger = logging.getLogger(__name__)

#: Seconds between two checks for a change of access by another process.
RECHECK_INTERVAL = 1.0

#: Events that clients may emit. All others are ignored: official clients emit `subscribe` and expect no response.
CLIENT_EVENTS = {"send_message"}


@dataclass(frozen=True)
class Member:
    """A client in a namespace: its membership, and the listener that the relay sends events to."""

    membership: Membership
    listener: Listener
    client: Client
    #: Held while a message is sent, so that a client's messages go out in its order.
    send_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Function that disconnects a client that is not a socket.
    disconnect: Callable[[], Any] | None = None
    #: The time at which it joined, in seconds since 1970.
    joined_at: float = field(default_factory=time.time)


class Namespaces(socketio.AsyncNamespace):
    """The namespaces' members, sockets and server-sent event streams alike, and their access."""

    server: Server

    def __init__(self, relay: Relay) -> None:
        super().__init__("*")
        self.relay = relay
        self.members: dict[str, Member] = {}
        #: The expiry of each member's keys, by sid, where there is one.
        self._expiries: dict[str, datetime] = {}
        #: The tasks that replay the log to members that are behind, by sid.
        self.following: dict[str, asyncio.Task[None]] = {}
        #: The access revision that was last acted upon: nobody joins under an older one.
        self.revision = 0
        #: The sids of members whose access is not known under that revision, or whose keys have expired.
        self._unchecked: set[str] = set()
        #: Set when access has changed, or may have.
        self._is_recheck_due = asyncio.Event()
        # thousands of clients may reconnect at once: a few reads of the database authorize them all
        self._authorize = Batched(authorize_many)
        self._cache = AuthorizationCache()

    async def trigger_event(self, event: str, *args: Any) -> Any:
        if event not in CLIENT_EVENTS | {"connect", "joined", "disconnect"}:
            return self.server.not_handled
        return await super().trigger_event(event, *args)

    async def on_connect(self, namespace: str, sid: str, handshake: Handshake, auth: Any = None) -> None:
        # keys first: others learn nothing, not even how their options are spelled
        grant = await self.grant(namespace, Credentials.from_handshake(handshake, auth))
        try:
            resume = ResumeRequest.from_auth(auth)
            membership = grant.join(resume)
            require_position("auth.since", membership.start)
        except InvalidOption as error:
            raise ConnectionRefusedError(str(error)) from None
        audience = Audience(wants_offsets=resume.recover, events=resume.events)
        listener = membership.listener(sid, namespace, audience)
        self.add(Member(membership, listener, handshake.client))
        if membership.start.pid:
            self.server.connect_data[sid] = {"pid": membership.start.pid}

    async def grant(self, namespace: str, credentials: Credentials) -> NamespaceGrant:
        """Authorize a client, under no older access revision than the one last acted upon.

        The caller adds it as a member before anything else runs. Raises ConnectionRefusedError, TryLater or
        django.db.Error.
        """
        for _ in range(ATTEMPTS):
            cached = self._cache.get(namespace, credentials)
            grant: NamespaceGrant = await self._authorize(JoinRequest(namespace, credentials, cached))
            await turn_of(asyncio.get_running_loop()).begin()  # thousands of clients may be authorized at once
            if grant.revision >= self.revision:
                self._cache.set(namespace, credentials, grant)
                for key in grant.keys_to_note:
                    self.relay.spawn(database(key.record_use))
                return grant
        raise TryLater

    def add(self, member: Member) -> None:
        """Add a member, whose access is rechecked from here on."""
        sid = member.listener.sid
        self.members[sid] = member
        if member.membership.expires_at:
            self._expiries[sid] = member.membership.expires_at
        if member.membership.revision != self.revision:
            self._unchecked.add(sid)
            self._is_recheck_due.set()

    def remove(self, sid: str) -> Member | None:
        self._expiries.pop(sid, None)
        self._unchecked.discard(sid)
        return self.members.pop(sid, None)

    async def on_joined(self, namespace: str, sid: str) -> None:
        """Start to send a client events; the server calls it once the client's CONNECT packet is queued."""
        member = self.members.get(sid)
        if member and member.membership.start.since is Since.AHEAD:
            await self.server.emit_error(
                errors.body(400, [beyond("auth.since", member.membership.start)]), sid, namespace
            )
            member = self.members.get(sid)
        is_silent = namespace == "/" and not settings.WEBSOCKET_GLOBAL_EVENTS
        if member and not is_silent and sid not in self.following:
            self._follow(member.listener)

    def rewind(self, behind: list[tuple[str, Dropped]]) -> None:
        """Replay the events that the server dropped for slow readers, once they take packets again.

        `behind` has the sid of each of them, and the events that it lost.
        """
        for sid, dropped in behind:
            member = self.members.get(sid)
            if member and self.relay.rewind(member.listener, dropped.before, dropped.events):
                self._follow(member.listener)

    def _follow(self, listener: Listener) -> None:
        task = self.following[listener.sid] = self.relay.spawn(self._follow_or_close(listener))
        task.add_done_callback(
            lambda done: self.following.get(listener.sid) is done and self.following.pop(listener.sid)
        )

    async def _follow_or_close(self, listener: Listener) -> None:
        try:
            await self.relay.follow(listener)
        except Exception:
            logger.exception("The log could not be replayed to a client; it is disconnected and may reconnect")
            eio_sid = self.server.manager.eio_sid_from_sid(listener.sid, listener.namespace)
            if eio_sid:
                self.server.close_transport(eio_sid)

    async def on_disconnect(self, namespace: str, sid: str, reason: str = "") -> None:
        self.server.connect_data.pop(sid, None)
        member = self.remove(sid)
        following = self.following.pop(sid, None)
        if following and following is not asyncio.current_task():  # that one disconnects the client itself
            following.cancel()
        if member:
            self.relay.remove_listener(member.listener)

    # Access of members

    async def recheck_access_forever(self) -> None:
        """Disconnect members within two seconds of losing access, whichever process changed it.

        A supervisor runs it. Raises django.db.Error.
        """
        loop = asyncio.get_running_loop()

        def changed(**kwargs: Any) -> None:
            loop.call_soon_threadsafe(self._is_recheck_due.set)

        access_changed.connect(changed, weak=False, dispatch_uid=self)
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RECHECK_INTERVAL):
                        await self._is_recheck_due.wait()
                self._is_recheck_due.clear()
                await self._recheck_access()
        finally:
            access_changed.disconnect(dispatch_uid=self)

    async def _recheck_access(self) -> None:
        """Disconnect the members that may not listen any more.

        A member is unchecked until an answer of the database is known that is no older than the revision acted upon:
        one that joins meanwhile, or whose check fails, is left to the next call. Raises django.db.Error.
        """
        revision = await database(AccessRevision.current)
        if revision != self.revision:
            self.revision = revision  # from here on nobody joins under an older one
            self._unchecked.update(self.members)
        now = timezone.now()
        self._unchecked.update(sid for sid, expiry in self._expiries.items() if expiry <= now)
        members = [self.members[sid] for sid in self._unchecked]
        if not members:
            return
        accesses = {access for member in members for access in member.membership.listener_accesses}
        authorized = await database(still_authorized_or_ending, accesses)
        for member in members:
            if not member.membership.listener_accesses <= authorized and member.listener.sid in self.members:
                await self.disconnect_member(member)
            self._unchecked.discard(member.listener.sid)

    async def disconnect_member(self, member: Member) -> None:
        """Disconnect a member for good, and drop what is queued for it; an event stream's client may come back."""
        if member.disconnect:
            member.disconnect()
        else:
            await self.server.disconnect_listener(member.listener, flush=False)

    # Sending messages

    async def on_send_message(self, namespace: str, sid: str, *args: Any) -> dict[str, Any]:
        """Send a text message; takes the body of POST /message/sendText and returns that route's response.

        Raises ApiError, which the server acknowledges.
        """
        member = self.members[sid]
        if not client_events.allows(member.membership.accesses):
            raise ApiError("Too many messages with this key; try again later", status_code=429)
        body = args[0] if args else None
        if not isinstance(body, dict):
            raise ApiError("send_message takes an object with a text and a number")
        if self.server.packet_class.data_is_binary(body):
            raise ApiError("send_message takes no binary data")
        async with member.send_lock:
            return await self._send(member.membership, body)

    async def _send(self, membership: Membership, body: dict[str, Any]) -> dict[str, Any]:
        # each call may wait for the lock of its instance
        in_pool = partial(database, pool=Pool.SENDS, holder=membership.instance_id or str(body.get("instance")))
        sending = await in_pool(self._begin_sending, membership, dict(body))
        if sending.is_repeat:
            return sending.message.as_event()
        return await in_pool(sending.finish, await sending.deliver())

    def _begin_sending(self, membership: Membership, body: dict[str, Any]) -> Sending:
        instance = membership.sending_instance(body.pop("instance", None))
        if "text" not in body and "message" in body:
            body["text"] = body.pop("message")
        if "number" not in body and instance.phone:
            body["number"] = instance.phone
        sending = Sending(instance, MessageKind.TEXT, validate(TextBody(data=body)))
        sending.begin()
        if not sending.is_repeat:
            membership.record(instance, "Sent a message from the console.")
        return sending
