"""The clients that are connected to this process, sockets and event streams alike: who they are, and the end of one.

The event loop changes what it holds of them between any two of its turns, and pages are made in threads. So a list is
taken on the loop, page by page and in turns, and a thread waits for it for DEADLINE at most.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, ClassVar, NamedTuple, TypeVar
from uuid import UUID

from realtime.fanout.feeds import Feed
from realtime.fanout.namespaces import Member, Namespaces
from realtime.fanout.relay import Relay
from realtime.wire.turn import turn_of

T = TypeVar("T")

#: Seconds that a thread waits for the event loop.
DEADLINE = 2.0
#: Clients that are looked at between two looks at the clock.
CLIENTS_AT_ONCE = 64

#: The key of a client that needs none.
NO_KEY = "none: its address is in WEBSOCKET_ALLOWED_HOSTS"
#: The key of a client that has one whose name the user may not see.
OTHER_KEY = "a key that opens other instances, too"


class NotServing(Exception):
    """Raised in a process without the event loop of sockets, and where that does not answer in time; a sentence."""


def listeners_by_instance(ids: Iterable[UUID]) -> dict[UUID, int]:
    """Return the number of clients of this process that listen in each instance's namespace; from any thread."""
    relays = tuple(Relay.running)
    return {pk: sum(relay.listeners_of(pk) for relay in relays) for pk in ids}


class ConnectedClient(NamedTuple):
    """A client in a namespace, as it was when it was looked at."""

    sid: str
    #: None for `/`.
    instance_id: UUID | None
    namespace: str
    address: str
    #: The beginning of its User-Agent.
    user_agent: str
    #: `websocket`, `polling` or `event stream`.
    transport: str
    #: The key that it joined with, in words that hold no part of it.
    key: str
    since: datetime
    #: Events that were sent to it.
    sent: int
    #: Packets of its connection that wait until it reads, and bytes that it has not taken.
    owed_packets: int
    owed_bytes: int
    #: True if it is sent events of the log that others have already.
    is_behind: bool
    #: The events of the log that it is behind, those that it does not want among them; None where that is not known.
    behind: int | None


@dataclass(frozen=True)
class Selection:
    """A selection of the clients that are connected."""

    #: The instances whose clients are selected; None for those of all, and of `/`.
    instance_ids: frozenset[UUID] | None = None
    #: A part of the namespace, address, User-Agent or key, in any letter case.
    text: str = ""
    only_behind: bool = False
    #: The ids of the keys whose names are shown; None for all.
    named_keys: frozenset[int] | None = None

    @property
    def has_conditions(self) -> bool:
        return bool(self.text or self.only_behind)

    def includes(self, client: ConnectedClient) -> bool:
        if self.only_behind and not (client.is_behind or client.owed_packets):
            return False
        text = self.text.lower()
        return any(text in each.lower() for each in (client.namespace, client.address, client.user_agent, client.key))


class ClientPage(NamedTuple):
    """A page of the clients that are selected, those that came last first, and the number of all of them."""

    clients: list[ConnectedClient]
    total: int


class Connected:
    """The clients of one server. Its methods are called from other threads, and raise NotServing."""

    running: ClassVar[set[Connected]] = set()

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Let other threads ask from here on; called on the event loop."""
        self._loop = asyncio.get_running_loop()
        self.running.add(self)

    def stop(self) -> None:
        self.running.discard(self)

    @classmethod
    def here(cls) -> Connected:
        """Return the clients of this process. Raises NotServing where it serves no sockets."""
        for each in tuple(cls.running):
            return each
        raise NotServing("This process serves no sockets, so nobody is connected to it.")

    @property
    def name(self) -> str:
        """The name of this process, as its page in the admin has it."""
        return f"process {os.getpid()} on {socket.gethostname()}"

    def page(self, selection: Selection, start: int, limit: int) -> ClientPage:
        """Return up to `limit` of the selected clients, without the first `start`."""
        return self._ask(self._page(selection, start, limit))

    def cut(self, sid: str, instance_ids: frozenset[UUID] | None) -> ConnectedClient | None:
        """Disconnect a client, if it is one of these instances' (None: of any); returns it, None if it is not there."""
        return self._ask(self._cut(sid, instance_ids))

    def cut_all(self, selection: Selection) -> int:
        """Disconnect all clients that are selected now; returns their number."""
        return self._ask(self._cut_all(selection))

    def _ask(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None or self._loop.is_closed():
            coroutine.close()
            raise NotServing("The server of this process has ended.")
        answer: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return answer.result(DEADLINE)
        except TimeoutError:
            answer.cancel()
            raise NotServing(f"The server did not answer within {DEADLINE:g} seconds: try again.") from None

    # On the event loop

    async def _page(self, selection: Selection, start: int, limit: int) -> ClientPage:
        members = self._members(selection.instance_ids)
        if not selection.has_conditions:
            chosen = islice(reversed(members), start, start + limit)
            return ClientPage([self._describe(member, selection.named_keys) for member in chosen], len(members))
        clients = [client async for _, client in self._matching(members, selection)]
        return ClientPage(clients[start : start + limit], len(clients))

    async def _matching(
        self, members: list[Member], selection: Selection
    ) -> AsyncIterator[tuple[Member, ConnectedClient]]:
        """Yield the members that are selected, those that came last first, and what the page shows of each."""
        turn = turn_of(asyncio.get_running_loop())
        for count, member in enumerate(reversed(members)):
            if count % CLIENTS_AT_ONCE == 0 and turn.is_over:
                await asyncio.sleep(0)
            if member.listener.sid in self._namespaces.members:
                client = self._describe(member, selection.named_keys)
                if selection.includes(client):
                    yield member, client

    async def _cut(self, sid: str, instance_ids: Collection[UUID] | None) -> ConnectedClient | None:
        member = self._namespaces.members.get(sid)
        if member is None or (instance_ids is not None and member.membership.instance_id not in instance_ids):
            return None
        client = self._describe(member)
        await self._namespaces.disconnect_member(member)
        return client

    async def _cut_all(self, selection: Selection) -> int:
        count = 0
        async for member, _ in self._matching(self._members(selection.instance_ids), selection):
            await self._namespaces.disconnect_member(member)
            count += 1
        return count

    def _members(self, instance_ids: frozenset[UUID] | None) -> list[Member]:
        """Return members, those that came first at the beginning: of all, or of these instances."""
        members = self._namespaces.members
        if instance_ids is None:
            return list(members.values())
        of_instances = (members.get(sid) for sid in self._sids(instance_ids))
        return sorted((member for member in of_instances if member), key=lambda member: member.joined_at)

    def _sids(self, instance_ids: frozenset[UUID]) -> Iterator[str]:
        feeds = self._namespaces.relay.feeds
        for pk in instance_ids if len(instance_ids) < len(feeds) else feeds.keys() & instance_ids:
            if pk in feeds:
                yield from feeds[pk].listeners

    def _describe(self, member: Member, named_keys: frozenset[int] | None = None) -> ConnectedClient:
        membership, listener = member.membership, member.listener
        feed = self._namespaces.relay.feed_of(listener)
        session = self._namespaces.server.session_of(listener)
        packets, size = session.owed if session else (0, 0)
        transport = "event stream" if member.disconnect else "websocket" if session and session.upgraded else "polling"
        is_behind = feed is not None and listener.room is None and listener.position != feed.position
        return ConnectedClient(
            sid=listener.sid,
            instance_id=membership.instance_id,
            namespace=listener.namespace,
            address=member.client.address,
            user_agent=member.client.user_agent,
            transport=transport,
            key=", ".join(_key_of(access, named_keys) for access in membership.accesses),
            since=datetime.fromtimestamp(member.joined_at, UTC),
            sent=feed.sent(listener) if feed else listener.sent,
            owed_packets=packets,
            owed_bytes=size,
            is_behind=is_behind,
            behind=_difference(feed, listener.position) if is_behind else 0,
        )


def _difference(feed: Feed | None, position: Any) -> int | None:
    """Return the number of events between a position and the feed's; None in the stream of all instances."""
    if feed is None or not isinstance(position, int) or not isinstance(feed.position, int):
        return None
    return feed.position - position


def _key_of(access: Any, named_keys: frozenset[int] | None) -> str:
    key = access.key or (access.minter and access.minter.key)
    if key and named_keys is not None and key.pk not in named_keys:
        return OTHER_KEY
    has_key = access.key or access.minter or access.is_global or access.token_digests
    return access.actor if has_key else NO_KEY
