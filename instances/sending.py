"""Sending of a text, for REST and sockets alike: claim it, send it to WhatsApp, announce it.

The claim and the announcement are transactions of their own; nothing is locked during the request to WhatsApp.
"""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, OperationalError, close_old_connections, connection

from instances.changes import OutgoingText
from instances.errors import ApiError, NotFound, is_lock_timeout
from instances.models import Instance, Message, SendUnderWay
from instances.outbound.client import http_client
from instances.providers import provider_of
from instances.providers.base import NotSent

#: Attempts to store a sent message while another transaction keeps its instance locked.
LOCK_ATTEMPTS = 6


class Sending:
    """One text that is being sent. `begin`, `finish` and `fail` use the database, `deliver` the network."""

    def __init__(self, instance: Instance, validated: dict[str, Any]) -> None:
        """Take the validated data of `TextBody`. Raises ApiError for an invalid number, or without a provider."""
        self.instance = instance
        self.provider = provider_of(instance)
        try:
            remote_jid = self.provider.address(validated["number"])
        except ValueError as error:
            raise ApiError(str(error)) from None
        self.text = OutgoingText(
            remote_jid=remote_jid,
            text=validated["text"],
            link_preview=validated["linkPreview"],
            quoted=validated.get("quoted"),
            request_id=validated.get("id"),
        )

    def begin(self) -> None:
        """Claim the text.

        Raises ApiError (409) while an earlier request with the same id is being sent, and NotFound if the instance was
        deleted.
        """
        try:
            self.message = Message.claim(self.instance, self.text)
        except SendUnderWay:
            raise ApiError(f'A message with the id "{self.text.request_id}" is being sent', status_code=409) from None
        except Instance.DoesNotExist:
            raise self._is_gone() from None

    @property
    def is_repeat(self) -> bool:
        """True if the text was sent by an earlier request with the same id."""
        return self.message.wa_id is not None

    async def deliver(self) -> str:
        """Send the text to WhatsApp and return the id of its message; raises NotSent."""
        return await self.provider.send_text(self.instance, self.text)

    def finish(self, wa_id: str) -> dict[str, Any]:
        """Store and announce the sent message; returns Evolution API's message object.

        What is sent must be stored, so locks are waited for several times as long as by other requests. Raises NotFound
        if the instance was deleted meanwhile, and ApiError (502) for the id of another message.
        """
        try:
            return self._record_sent(wa_id).as_event()
        except Instance.DoesNotExist:
            raise self._is_gone() from None
        except IntegrityError:
            raise ApiError(f'WhatsApp answered with the id of another message, "{wa_id}"', status_code=502) from None

    def _record_sent(self, wa_id: str) -> Message:
        for _ in range(LOCK_ATTEMPTS - 1):
            try:
                return self.message.record_sent(wa_id, self.provider.sent_status)
            except OperationalError as error:
                if not is_lock_timeout(error) or connection.in_atomic_block:
                    raise
        return self.message.record_sent(wa_id, self.provider.sent_status)

    def _is_gone(self) -> NotFound:
        return NotFound(f'The "{self.instance.name}" instance does not exist')

    def fail(self, error: NotSent) -> ApiError:
        """Release the claim; returns the error for the client."""
        self.message.release_claim()
        return ApiError(error.message, status_code=error.status)


def send_text(instance: Instance, validated: dict[str, Any]) -> dict[str, Any]:
    """Send a text and return Evolution API's message object; for threads without an event loop.

    Raises ApiError and NotFound, as `Sending` does.
    """
    sending = Sending(instance, validated)
    sending.begin()
    if sending.is_repeat:
        return sending.message.as_event()
    if not connection.in_atomic_block:
        close_old_connections()  # returns the connection to the pool during the request to WhatsApp
    try:
        wa_id = http_client.run(sending.deliver())
    except NotSent as error:
        raise sending.fail(error) from None
    return sending.finish(wa_id)
