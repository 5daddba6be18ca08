"""Sending of a message, for REST and sockets alike: claim it, send it to WhatsApp, announce it.

The claim and its result are transactions of their own; nothing is locked during the request to WhatsApp.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any, TypeVar

from django.db import IntegrityError, close_old_connections, connection

from instances.errors import DATABASE_ERRORS, ApiError, NotFound, database_error, is_lock_timeout, not_connected
from instances.models import Instance, Message, SendOutcomeUnknown, SendUnderWay
from instances.outbound.client import http_client
from instances.outbound_message import MessageKind, OutboundMessage
from instances.providers import provider_of
from instances.providers.base import NotSent, OutcomeUnknown, SendError

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Attempts to store the result of a send while another transaction keeps its instance locked.
LOCK_ATTEMPTS = 6
#: Minutes after which a send of unknown outcome may be repeated.
MINUTES = int(Message.SENDING.total_seconds() // 60)


class Sending:
    """One message that is being sent. `begin` and `finish` use the database, `deliver` the network."""

    def __init__(self, instance: Instance, kind: MessageKind, validated: dict[str, Any]) -> None:
        """Take the validated data of the body of the kind's route.

        Raises ApiError for an invalid number, for what the instance's channel cannot send, or without a provider.
        """
        self.instance = instance
        self.provider = provider_of(instance)
        if kind not in self.provider.sends:
            raise ApiError(self.provider.refusal(instance, kind, validated))
        try:
            remote_jid = self.provider.address(validated["number"])
        except ValueError as error:
            raise ApiError(str(error)) from None
        self.retry_unknown: bool = validated["retryUnknown"]
        message_id = validated.get("messageId")
        outgoing = OutboundMessage(
            kind=kind,
            remote_jid=remote_jid,
            members=validated,
            quoted=validated.get("quoted"),
            request_id=validated.get("id") or message_id,
            message_id=message_id,
        )
        message_type, content = self.provider.content(outgoing)
        self.outgoing = replace(outgoing, type=message_type, content=content)

    def begin(self) -> None:
        """Claim the message.

        Raises ApiError while an earlier request with the same id is being sent (409), if it is not known whether it
        was sent (the error that it was answered), or if the instance is logged out, and NotFound if it was deleted.
        """
        if self.instance.logged_out_at and not Message.was_sent(self.instance, self.outgoing.request_id):
            raise not_connected(self.instance.name)
        try:
            self.message = Message.claim(self.instance, self.outgoing, self.provider.reports_early, self.retry_unknown)
        except SendUnderWay:
            text = f'A message with the id "{self.outgoing.request_id}" is being sent'
            raise ApiError(text, status_code=409) from None
        except SendOutcomeUnknown as error:
            raise _unknown_error(error.message, error.status) from None
        except Instance.DoesNotExist:
            raise self._is_gone() from None
        self.outgoing = replace(self.outgoing, callback_data=self.message.callback_data)

    @property
    def is_repeat(self) -> bool:
        """True if the message was sent by an earlier request with the same id."""
        return self.message.wa_id is not None

    async def deliver(self) -> str | SendError:
        """Send the message to WhatsApp; return the id that it has there, or the error if it was not accepted."""
        try:
            return await self.provider.send(self.instance, self.outgoing)
        except SendError as error:
            return error
        except Exception as error:
            logger.exception("A message could not be sent")
            return OutcomeUnknown(f"The server failed ({type(error).__name__})", status=500)

    def finish(self, result: str | SendError) -> dict[str, Any]:
        """Store the result of `deliver` and announce a message that was sent; returns Evolution API's message object.

        What is sent must be stored, so locks are waited for several times as long as by other requests. Raises NotFound
        if the instance was deleted meanwhile, and ApiError for a message that was not accepted, as far as is known.
        """
        if isinstance(result, str):
            return self._finish_sent(result)
        if not isinstance(result, NotSent):
            return self._finish_unknown(result)
        settled = self._store_failure(self.message.release_claim)
        if settled is None:
            raise ApiError(result.message, result.status)
        return settled

    def _finish_unknown(self, error: SendError) -> dict[str, Any]:
        text = self._describe_unknown(error.message)
        settled = self._store_failure(self.message.record_unknown, error.status, text)
        if settled is None:
            raise _unknown_error(text, error.status)
        return settled

    def _store_failure(self, store: Callable[..., dict[str, Any] | None], *args: Any) -> dict[str, Any] | None:
        """Store that a message was not accepted; the sender is answered so even where that fails.

        Returns the message object if a report has proved meanwhile that WhatsApp has it.
        """
        try:
            return self._store(store, *args)
        except DATABASE_ERRORS as error:
            logger.error("The failure of a send could not be stored: %s", error)
            return None

    def _finish_sent(self, wa_id: str) -> dict[str, Any]:
        try:
            return self._store(self.message.record_sent, wa_id, self.provider.sent_status)
        except Instance.DoesNotExist:
            raise self._is_gone() from None
        except IntegrityError:
            if wa_id == self.outgoing.message_id:
                text = f'The instance has another message with the id "{wa_id}"'
                return self.finish(NotSent(text, status=409))
            text = f'WhatsApp answered with the id of another message, "{wa_id}"'
            return self._finish_unknown(OutcomeUnknown(text, status=502))
        except DATABASE_ERRORS as error:
            logger.error("The message %s was sent, and could not be stored: %s", wa_id, error)
            text = (
                f'WhatsApp has accepted the message as "{wa_id}", but it is not stored. {database_error(error).detail}'
            )
            raise ApiError(text, status_code=503, outcome="sent") from None

    def _store(self, store: Callable[..., T], *args: Any) -> T:
        for _ in range(LOCK_ATTEMPTS - 1):
            try:
                return store(*args)
            except DATABASE_ERRORS as error:
                if not is_lock_timeout(error) or connection.in_atomic_block:
                    raise
        return store(*args)

    def _is_gone(self) -> NotFound:
        return NotFound(f'The "{self.instance.name}" instance does not exist')

    def _describe_unknown(self, cause: str) -> str:
        cause = f"{cause.rstrip('.')}. It is not known whether the message was sent"
        if self.outgoing.request_id is None:
            return f"{cause}: sending it again may send it twice. A request with an id can be repeated safely"
        return (
            f'{cause}. A request with the id "{self.outgoing.request_id}" sends it again after {MINUTES} minutes, and '
            'before that only with "retryUnknown": true; it may then be sent twice'
        )


def _unknown_error(message: str, status: int) -> ApiError:
    return ApiError(message, status, outcome="unknown")


def send_message(instance: Instance, kind: MessageKind, validated: dict[str, Any]) -> dict[str, Any]:
    """Send a message and return Evolution API's message object; for threads without an event loop.

    Raises ApiError and NotFound, as `Sending` does.
    """
    sending = Sending(instance, kind, validated)
    sending.begin()
    if sending.is_repeat:
        return sending.message.as_event()
    if not connection.in_atomic_block:
        close_old_connections()  # returns the connection to the pool during the request to WhatsApp
    try:
        result = http_client.run(sending.deliver())
    except CancelledError:
        result = OutcomeUnknown("The server was stopped", status=503)
    return sending.finish(result)
