"""RabbitMQ by Evolution API's conventions, with publisher confirms: a message is delivered once the broker stored it.

An instance's events are published to a durable topic exchange of its name, those of all instances to
RABBITMQ_EXCHANGE_NAME. The routing key is the event's type. Each type has a quorum queue of its own, which is declared
and bound before its first event is published, so that nothing is lost before the first consumer.

The broker is the operator's, named in the environment; a tenant cannot name one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from yarl import URL

from instances.bounds import RABBITMQ_CHANNELS
from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.delivery.causes import Cause
from realtime.delivery.transports.base import Endpoint, Outcome, OutgoingMessage, RenderedBody, Result, Transport
from realtime.envelope import encode


def _allow_any_name() -> None:
    """Make the AMQP client accept any exchange and queue name, as the broker does.

    pamqp (4.0) accepts only some ASCII characters, by `pamqp.constants.DOMAIN_REGEX`; Evolution API names an exchange
    as its instance. If the dictionary moves, importing it fails; if it is not used any more, names like "São João" are
    refused: tests/realtime/delivery/transports/test_rabbitmq.py says so.
    """
    from pamqp.constants import DOMAIN_REGEX

    DOMAIN_REGEX.update(dict.fromkeys(("exchange-name", "queue-name"), re.compile(".*", re.DOTALL)))


try:
    import aiormq
except ImportError:  # optional: settings demands it where RABBITMQ_ENABLED is true
    pass
else:
    _allow_any_name()

logger = logging.getLogger(__name__)

#: Seconds for an attempt, from the connection to the confirmation.
TIMEOUT = 15.0
#: Seconds for opening the connection, and for closing it.
CONNECT_TIMEOUT = 5.0
#: Seconds after a failed connection until the next one is tried.
RECONNECT_DELAY = 2.0
#: Seconds between heartbeats, unless the URI says otherwise; aiormq closes a connection after about three missed ones.
HEARTBEAT = 10
#: Channels that are kept open, unless more are in use at a time; a broker allows 2047 for a connection.
MAX_CHANNELS = RABBITMQ_CHANNELS
#: The limit of AMQP for names, in bytes.
MAX_NAME = 255
#: The id of the environment's endpoint for all instances.
GLOBAL = -1
#: The reason why nothing is sent while it is off.
OFF = "RabbitMQ is off: RABBITMQ_ENABLED is not true"


class BrokerUnavailable(Exception):
    """Raised with the reason why there is no connection to the broker."""


@dataclass(frozen=True)
class QueueBinding:
    """The exchange, queue and routing key of an event."""

    exchange: str
    queue: str
    key: str

    @classmethod
    def of(cls, type: str, endpoint: Endpoint) -> QueueBinding:
        """Return Evolution API's names; the `exchange` of an instance's endpoint is the instance's name."""
        if exchange := endpoint.options.get("exchange"):
            return cls(exchange, f"{exchange}.{type}", type)
        prefix = f"{settings.RABBITMQ_PREFIX_KEY}." if settings.RABBITMQ_PREFIX_KEY else ""
        return cls(settings.RABBITMQ_EXCHANGE_NAME, f"{prefix}{type}", type)

    def __str__(self) -> str:
        return f"exchange {self.exchange}, queue {self.queue}"


class RabbitMQ(Transport):
    name = Subscription.RABBITMQ
    title = "RabbitMQ"
    description = "the events that are published to the exchange with the instance's name"
    takes_all_instances = False  # only the environment has an exchange for all

    def __init__(self) -> None:
        self._broker = Broker()

    @property
    def off_reason(self) -> str:
        return "" if settings.RABBITMQ_ENABLED else OFF

    @property
    def is_offered(self) -> bool:
        return settings.RABBITMQ_ENABLED

    def check(self, instance: Instance | None) -> None:
        if not settings.RABBITMQ_ENABLED:
            raise ValueError("RabbitMQ is disabled on this server: RABBITMQ_ENABLED is not true")
        name = instance.name if instance else ""
        if name.startswith("amq.") or name == settings.RABBITMQ_EXCHANGE_NAME:
            raise ValueError(
                f'An instance named "{name}" cannot have an exchange: RabbitMQ or this server uses that name'
            )
        if len(name.encode()) + 1 + max(map(len, EventType.values)) > MAX_NAME:
            raise ValueError(f'"{name}" is too long for a queue name')

    def initial_options(self, instance: Instance | None) -> dict[str, Any]:
        return {"exchange": instance.name} if instance else {}

    def target(self, options: Mapping[str, Any]) -> str:
        return str(options.get("exchange", ""))

    def body(self, envelope: Mapping[str, Any]) -> RenderedBody:
        """Render the envelope without `prev`, which is the previous event that sockets received."""
        return RenderedBody(encode({name: value for name, value in envelope.items() if name != "prev"}))

    def destination(self, event_type: EventType, endpoint: Endpoint) -> str:
        return str(QueueBinding.of(event_type.value, endpoint))

    def global_endpoints(self) -> list[Endpoint]:
        if not (settings.RABBITMQ_ENABLED and settings.RABBITMQ_GLOBAL_ENABLED):
            return []
        return [Endpoint(GLOBAL, self.name, {}, {}, settings.RABBITMQ_EVENTS)]

    async def send(self, message: OutgoingMessage, endpoint: Endpoint) -> Outcome:
        if not settings.RABBITMQ_ENABLED:
            return Outcome(Result.RETRY, error=OFF, cause=Cause.TRANSPORT_OFF)
        binding = QueueBinding.of(message.type, endpoint)
        if len(binding.queue.encode()) > MAX_NAME:
            text = f"The queue's name would be longer than AMQP's {MAX_NAME} bytes"
            return Outcome(Result.DEAD, error=text, cause=Cause.REQUEST)
        publishing = asyncio.ensure_future(self._broker.publish(binding, message, endpoint.id))
        try:
            await asyncio.wait({publishing}, timeout=TIMEOUT)
            return _outcome(publishing)
        finally:
            if not publishing.done():  # not awaited: on a dead connection, aiormq takes a while even to cancel
                self._broker.abandon(publishing)

    async def close(self) -> None:
        await self._broker.close()


def _outcome(publishing: asyncio.Future[None]) -> Outcome:
    if not publishing.done():
        return _failed(f"The broker did not confirm it within {TIMEOUT:g} seconds")
    if publishing.cancelled():  # by aiormq, which closes the connection
        return _failed("The connection to the broker was closed")
    error = publishing.exception()
    if error is None:
        return Outcome(Result.DELIVERED)
    if isinstance(error, aiormq.exceptions.PublishError):
        return _failed("The broker returned it: its queue is gone, and will be declared again")
    if isinstance(error, aiormq.exceptions.DeliveryError):
        return _failed("The broker refused it (basic.nack)")
    if isinstance(error, RuntimeError):  # aiormq's, of a connection or channel that is closing
        return _failed("The connection to the broker was closed")
    if not isinstance(error, (BrokerUnavailable, aiormq.AMQPError, OSError)):
        raise error
    description = _describe(error)
    # a limit of the broker: the same bytes are refused each time
    is_too_large = isinstance(error, aiormq.ChannelPreconditionFailed) and "larger than" in description
    return _failed(description, Result.DEAD if is_too_large else Result.RETRY)


def _failed(text: str, result: Result = Result.RETRY) -> Outcome:
    return Outcome(result, error=text, cause=Cause.BROKER)


def _describe(error: BaseException) -> str:
    """Return the error's text without the password."""
    text = str(error) or type(error).__name__
    password = URL(settings.RABBITMQ_URI).password
    return text.replace(password, "******") if password and len(password) > 3 else text


def _describe_failed_connection(error: Exception, uri: URL) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {CONNECT_TIMEOUT:g} seconds"
    if isinstance(error, aiormq.exceptions.InvalidFrameError) and "OpenOk" in str(error):  # aiormq drops the reason
        return f'there is no virtual host "{uri.path[1:] or "/"}", or it is not for this user'
    return _describe(error)


class Broker:
    """Keeps one connection, opened on demand, with a channel for each endpoint.

    AMQP closes a channel on an error, so an error with one endpoint's exchange affects no other endpoint.
    """

    def __init__(self) -> None:
        self._connection: aiormq.Connection | None = None
        self._connecting: asyncio.Task[aiormq.Connection] | None = None
        #: Channels by endpoint, the least recently used first.
        self._channels: OrderedDict[int, EndpointChannel] = OrderedDict()
        #: Tasks that nothing awaits; kept, because asyncio keeps only weak references to tasks.
        self._background: set[asyncio.Future[None]] = set()
        #: The error of the last attempt to connect, and the time (time.monotonic) of the next one.
        self._error, self._reconnect_at = "", 0.0

    async def publish(self, binding: QueueBinding, message: OutgoingMessage, endpoint_id: int) -> None:
        """Publish a message, and return once the broker confirms it.

        Raises BrokerUnavailable, aiormq's errors, OSError and RuntimeError.
        """
        connection = await self._connected()
        channel = self._channel(endpoint_id)
        channel.users += 1
        try:
            await channel.publish(connection, binding, message)
        finally:
            channel.users -= 1

    def _channel(self, endpoint_id: int) -> EndpointChannel:
        channel = self._channels.setdefault(endpoint_id, EndpointChannel())
        self._channels.move_to_end(endpoint_id)
        if len(self._channels) > MAX_CHANNELS:
            idle = next((pk for pk, other in self._channels.items() if not other.users and other is not channel), None)
            if idle is not None:
                self._keep(asyncio.ensure_future(self._channels.pop(idle).close()))
        return channel

    def abandon(self, publishing: asyncio.Future[None]) -> None:
        """Cancel a call of `publish` without waiting for its end."""
        publishing.cancel()
        self._keep(publishing)

    def _keep(self, task: asyncio.Future[None]) -> None:
        self._background.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Future[None]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio would log it

    async def _connected(self) -> aiormq.Connection:
        if self._connection is not None and self._connection.is_opened:
            return self._connection
        if self._connecting is None:
            if time.monotonic() < self._reconnect_at:
                raise BrokerUnavailable(self._error)
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._connect_done)
        return await asyncio.shield(self._connecting)  # shared: a caller that is cancelled leaves it to the others

    def _connect_done(self, task: asyncio.Task[aiormq.Connection]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # retrieved, in case that all callers were cancelled

    async def _connect(self) -> aiormq.Connection:
        uri = URL(settings.RABBITMQ_URI)
        uri = uri.with_query({"heartbeat": str(HEARTBEAT), "name": "evoapi"} | dict(uri.query))
        connection = aiormq.Connection(uri)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.connect()
        except (aiormq.AMQPError, OSError, RuntimeError) as error:  # a TimeoutError is an OSError
            self._record(f"RabbitMQ at {uri.host} cannot be reached: {_describe_failed_connection(error, uri)}")
            raise BrokerUnavailable(self._error) from None
        self._record("")
        self._connection = connection
        return connection

    def _record(self, error: str) -> None:
        """Record the result of an attempt to connect, and log what changed; `error` is empty after a success."""
        if error and error != self._error:
            logger.warning("%s; its deliveries stay pending", error)
        elif self._error and not error:
            logger.warning("RabbitMQ is back")
        self._error, self._reconnect_at = error, time.monotonic() + RECONNECT_DELAY if error else 0.0

    async def close(self) -> None:
        """Close the connection and its channels."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        connection, self._connection = self._connection, None
        self._channels.clear()
        if connection is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(connection.close(), CONNECT_TIMEOUT)
        if self._background:
            await asyncio.wait(self._background, timeout=CONNECT_TIMEOUT)


class EndpointChannel:
    """The channel of an endpoint, and the routes that are declared on it."""

    def __init__(self) -> None:
        #: Calls of `publish` that are running.
        self.users = 0
        self._channel: Any = None
        self._declared: set[QueueBinding] = set()
        self._lock = asyncio.Lock()

    async def publish(self, connection: aiormq.Connection, binding: QueueBinding, message: OutgoingMessage) -> None:
        """Publish a message, and return once the broker confirms it; calls are published in their order."""
        async with self._lock:
            channel = await self._opened(connection)
            if binding not in self._declared:
                await self._declare(channel, binding)
        try:
            # mandatory: if the queue was deleted, the message is returned, instead of confirmed
            await channel.basic_publish(
                message.body,
                exchange=binding.exchange,
                routing_key=binding.key,
                properties=_properties(message),
                mandatory=True,
            )
        except aiormq.exceptions.PublishError:
            self._declared.discard(binding)
            raise

    async def _opened(self, connection: aiormq.Connection) -> Any:
        if self._channel is None or self._channel.is_closed or self._channel.connection is not connection:
            self._declared.clear()
            self._channel = None
            self._channel = await connection.channel()
        return self._channel

    async def _declare(self, channel: Any, binding: QueueBinding) -> None:
        """Declare exchange, queue and binding with Evolution API's arguments: AMQP refuses others for the same name."""
        try:
            await channel.exchange_declare(binding.exchange, exchange_type="topic", durable=True)
            await channel.queue_declare(binding.queue, durable=True, arguments={"x-queue-type": "quorum"})
            await channel.queue_bind(binding.queue, binding.exchange, binding.key)
        except BaseException:
            self._channel = None  # the broker or aiormq closes it
            raise
        self._declared.add(binding)

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()


def _properties(message: OutgoingMessage) -> aiormq.spec.Basic.Properties:
    seq = message.id.rpartition(".")[2]
    return aiormq.spec.Basic.Properties(
        content_type="application/json",
        delivery_mode=2,  # persistent
        message_id=message.id,
        message_type=message.type,
        timestamp=datetime.now(UTC),
        headers={"seq": int(seq)} if seq.isdecimal() else {},
    )
