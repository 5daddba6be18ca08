"""RabbitMQ, by Evolution API's conventions, and with publisher confirms: delivered is what the broker has on disk.

An instance's events go to a durable topic exchange of its name, those of all instances to RABBITMQ_EXCHANGE_NAME. The
routing key is the event's type. Each type has a quorum queue of its own, which is declared and bound before its first
event is sent, so that nothing is lost before somebody consumes.

The broker is the operator's, named in the environment; a tenant cannot name one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from yarl import URL

from instances.events import EventType
from instances.models import Subscription
from realtime.delivery.transports.base import Endpoint, Outcome, OutgoingMessage, Result, Transport
from realtime.envelope import encode

with suppress(ImportError):  # optional: settings demands it where RABBITMQ_ENABLED is true
    import aiormq
    from pamqp.constants import DOMAIN_REGEX

    # The client lets only some of ASCII into names; the broker, like Evolution API, takes an instance's as it is.
    DOMAIN_REGEX |= dict.fromkeys(("exchange-name", "queue-name"), re.compile(".*", re.DOTALL))

logger = logging.getLogger(__name__)

#: Seconds for an attempt, from the connection to the confirmation.
TIMEOUT = 15.0
#: Seconds for the connection itself, and for its end.
CONNECT_TIMEOUT = 5.0
#: Seconds for which nobody knocks again at a broker that did not let us in.
PAUSE = 2.0
#: Seconds between heartbeats, unless the URI says otherwise; after some three of them a silent connection is given up.
HEARTBEAT = 10
#: Channels that are kept, unless more are in use at the same time; a broker allows 2047 a connection.
MAX_CHANNELS = 256
#: AMQP's bound for names, in bytes.
MAX_NAME = 255
#: The id of the endpoint that the environment describes.
GLOBAL = -1


class Away(Exception):
    """The broker does not let us in; says why."""


@dataclass(frozen=True)
class Route:
    exchange: str
    queue: str
    key: str

    @classmethod
    def of(cls, type: str, endpoint: Endpoint) -> Route:
        """Evolution API's names; `exchange` of an instance's endpoint is the instance's name."""
        if exchange := endpoint.options.get("exchange"):
            return cls(exchange, f"{exchange}.{type}", type)
        prefix = f"{settings.RABBITMQ_PREFIX_KEY}." if settings.RABBITMQ_PREFIX_KEY else ""
        return cls(settings.RABBITMQ_EXCHANGE_NAME, f"{prefix}{type}", type)

    def __str__(self) -> str:
        return f"exchange {self.exchange}, queue {self.queue}"


class RabbitMQ(Transport):
    name = Subscription.RABBITMQ

    def __init__(self) -> None:
        self._broker = Broker()

    @property
    def is_on(self) -> bool:
        return bool(settings.RABBITMQ_ENABLED)

    def body(self, envelope: dict[str, Any], endpoint: Endpoint) -> bytes:
        """Without `prev`, which counts what sockets hear."""
        return encode({name: value for name, value in envelope.items() if name != "prev"})

    def destination(self, event_type: EventType, endpoint: Endpoint) -> str:
        return str(Route.of(event_type.value, endpoint))

    def global_endpoints(self) -> list[Endpoint]:
        if not (settings.RABBITMQ_ENABLED and settings.RABBITMQ_GLOBAL_ENABLED):
            return []
        return [Endpoint(GLOBAL, self.name, {}, {}, settings.RABBITMQ_EVENTS)]

    async def send(self, message: OutgoingMessage, endpoint: Endpoint) -> Outcome:
        if not settings.RABBITMQ_ENABLED:
            return Outcome(Result.RETRY, error="RabbitMQ is off: RABBITMQ_ENABLED is not true")
        route = Route.of(message.type, endpoint)
        if len(route.queue.encode()) > MAX_NAME:
            return Outcome(Result.DEAD, error=f"The queue's name would be longer than AMQP's {MAX_NAME} bytes")
        publishing = asyncio.ensure_future(self._broker.publish(route, message, endpoint.id))
        try:
            await asyncio.wait({publishing}, timeout=TIMEOUT)
            return _outcome(publishing)
        finally:
            if not publishing.done():  # not waited for: on a line that is dead even giving up takes aiormq a while
                self._broker.abandon(publishing)

    async def close(self) -> None:
        await self._broker.close()


def _outcome(publishing: asyncio.Future[None]) -> Outcome:
    if not publishing.done():
        return Outcome(Result.RETRY, error=f"The broker did not confirm it within {TIMEOUT:g} seconds")
    if publishing.cancelled():  # so aiormq ends what waits for a connection that it closes
        return Outcome(Result.RETRY, error="The connection to the broker was closed")
    error = publishing.exception()
    if error is None:
        return Outcome(Result.DELIVERED)
    if isinstance(error, aiormq.exceptions.PublishError):
        return Outcome(Result.RETRY, error="The broker returned it: its queue is gone, and will be declared again")
    if isinstance(error, aiormq.exceptions.DeliveryError):
        return Outcome(Result.RETRY, error="The broker refused it (basic.nack)")
    if isinstance(error, RuntimeError):  # aiormq's, of a connection or channel that closes
        return Outcome(Result.RETRY, error="The connection to the broker was closed")
    if not isinstance(error, (Away, aiormq.AMQPError, OSError)):
        raise error
    told = _words(error)
    # a bound of the broker's own; the same bytes will never pass it
    is_too_large = isinstance(error, aiormq.ChannelPreconditionFailed) and "larger than" in told
    return Outcome(Result.DEAD if is_too_large else Result.RETRY, error=told)


def _words(error: BaseException) -> str:
    """What went wrong, without the password."""
    told = str(error) or type(error).__name__
    password = URL(settings.RABBITMQ_URI).password
    return told.replace(password, "******") if password and len(password) > 3 else told


def _why_not(error: Exception, uri: URL) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {CONNECT_TIMEOUT:g} seconds"
    if isinstance(error, aiormq.exceptions.InvalidFrameError) and "OpenOk" in str(error):  # the broker's words are lost
        return f'there is no virtual host "{uri.path[1:] or "/"}", or it is not for this user'
    return _words(error)


class Broker:
    """The one connection, made when it is needed, and a channel on it for each endpoint.

    AMQP answers a mistake by closing the channel, so what is wrong with one endpoint's exchange concerns no other.
    """

    def __init__(self) -> None:
        self._connection: aiormq.Connection | None = None
        self._connecting: asyncio.Task[aiormq.Connection] | None = None
        self._lanes: OrderedDict[int, Lane] = OrderedDict()
        #: What nobody waits for any more; kept, because asyncio forgets what nobody keeps.
        self._endings: set[asyncio.Future[None]] = set()
        #: What the last try to connect met, and until when that is taken as the answer.
        self._trouble, self._pause_until = "", 0.0

    async def publish(self, route: Route, message: OutgoingMessage, endpoint_id: int) -> None:
        """Returns when the broker has confirmed it. Raises Away, aiormq's errors, OSError and RuntimeError."""
        connection = await self._connected()
        lane = self._lane(endpoint_id)
        lane.users += 1
        try:
            await lane.publish(connection, route, message)
        finally:
            lane.users -= 1

    def _lane(self, endpoint_id: int) -> Lane:
        lane = self._lanes.setdefault(endpoint_id, Lane())
        self._lanes.move_to_end(endpoint_id)
        if len(self._lanes) > MAX_CHANNELS:
            idle = next((id for id, one in self._lanes.items() if not one.users and one is not lane), None)
            if idle is not None:
                self._keep(asyncio.ensure_future(self._lanes.pop(idle).close()))
        return lane

    def abandon(self, publishing: asyncio.Future[None]) -> None:
        publishing.cancel()
        self._keep(publishing)

    def _keep(self, ending: asyncio.Future[None]) -> None:
        self._endings.add(ending)
        ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Future[None]) -> None:
        self._endings.discard(ending)
        if not ending.cancelled():
            ending.exception()

    async def _connected(self) -> aiormq.Connection:
        if self._connection is not None and self._connection.is_opened:
            return self._connection
        if self._connecting is None:
            if time.monotonic() < self._pause_until:
                raise Away(self._trouble)
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._connected_or_not)
        return await asyncio.shield(self._connecting)  # many wait for it; one that gives up leaves it to the others

    def _connected_or_not(self, task: asyncio.Task[aiormq.Connection]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # told to those who waited, if any are left

    async def _connect(self) -> aiormq.Connection:
        uri = URL(settings.RABBITMQ_URI)
        uri = uri.with_query({"heartbeat": str(HEARTBEAT), "name": "evoapi"} | dict(uri.query))
        connection = aiormq.Connection(uri)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.connect()
        except (aiormq.AMQPError, OSError, RuntimeError) as error:  # a TimeoutError is an OSError
            self._note(f"RabbitMQ at {uri.host} cannot be reached: {_why_not(error, uri)}")
            raise Away(self._trouble) from None
        self._note("")
        self._connection = connection
        return connection

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            logger.warning("%s; what it is owed waits", trouble)
        elif self._trouble and not trouble:
            logger.warning("RabbitMQ is back")
        self._trouble, self._pause_until = trouble, time.monotonic() + PAUSE if trouble else 0.0

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        connection, self._connection = self._connection, None
        self._lanes.clear()
        if connection is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(connection.close(), CONNECT_TIMEOUT)
        if self._endings:
            await asyncio.wait(self._endings, timeout=CONNECT_TIMEOUT)


class Lane:
    """An endpoint's channel and what has been declared on it."""

    def __init__(self) -> None:
        self.users = 0
        self._channel: Any = None  # aiormq's
        self._declared: set[Route] = set()
        self._lock = asyncio.Lock()

    async def publish(self, connection: aiormq.Connection, route: Route, message: OutgoingMessage) -> None:
        async with self._lock:  # those behind it are sent behind it, too
            channel = await self._opened(connection)
            if route not in self._declared:
                await self._declare(channel, route)
        try:
            # mandatory: a queue that somebody has deleted is noticed, instead of confirmed
            await channel.basic_publish(
                message.body,
                exchange=route.exchange,
                routing_key=route.key,
                properties=_properties(message),
                mandatory=True,
            )
        except aiormq.exceptions.PublishError:
            self._declared.discard(route)
            raise

    async def _opened(self, connection: aiormq.Connection) -> Any:
        if self._channel is None or self._channel.is_closed or self._channel.connection is not connection:
            self._declared.clear()
            self._channel = None
            self._channel = await connection.channel()
        return self._channel

    async def _declare(self, channel: Any, route: Route) -> None:
        """As Evolution API does, so that either finds what the other has declared."""
        try:
            await channel.exchange_declare(route.exchange, exchange_type="topic", durable=True)
            await channel.queue_declare(route.queue, durable=True, arguments={"x-queue-type": "quorum"})
            await channel.queue_bind(route.queue, route.exchange, route.key)
        except BaseException:
            self._channel = None  # the broker or aiormq closes it
            raise
        self._declared.add(route)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def _properties(message: OutgoingMessage) -> aiormq.spec.Basic.Properties:
    seq = message.id.rpartition(".")[2]
    return aiormq.spec.Basic.Properties(
        content_type="application/json",
        delivery_mode=2,  # kept on disk
        message_id=message.id,
        message_type=message.type,
        timestamp=datetime.now(UTC),
        headers={"seq": int(seq)} if seq.isdecimal() else {},
    )
