"""Sending a text, the same from REST and from a socket: claim it, hand it to WhatsApp, announce it.

The claim and the announcement are transactions of their own; nothing is locked while WhatsApp is asked.
"""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, close_old_connections, connection

from instances.changes import OutgoingText
from instances.errors import ApiError, NotFound
from instances.models import Instance, Message, SendUnderWay
from instances.outbound.client import http_client
from instances.providers import providers
from instances.providers.base import NotSent


class Sending:
    """One text on its way. `begin` and `finish` use the database, `deliver` the network."""

    def __init__(self, instance: Instance, validated: dict[str, Any]) -> None:
        """`validated` is what `TextBody` makes of a body. Raises ApiError for a number that can be none."""
        self.instance = instance
        self.provider = providers()[instance.integration]
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
        try:
            self.message = Message.claim(self.instance, self.text)
        except SendUnderWay:
            raise ApiError(f'A message with the id "{self.text.request_id}" is being sent', status_code=409) from None
        except Instance.DoesNotExist:
            raise self._is_gone() from None

    @property
    def is_repeat(self) -> bool:
        return self.message.wa_id is not None

    async def deliver(self) -> str:
        return await self.provider.send_text(self.instance, self.text)

    def finish(self, wa_id: str) -> dict[str, Any]:
        """Store and announce it; raises NotFound when the instance was deleted while WhatsApp was asked."""
        try:
            return self.message.record_sent(wa_id, self.provider.sent_status).as_event()
        except Instance.DoesNotExist:
            raise self._is_gone() from None
        except IntegrityError:
            raise ApiError(f'WhatsApp answered with the id of another message, "{wa_id}"', status_code=502) from None

    def _is_gone(self) -> NotFound:
        return NotFound(f'The "{self.instance.name}" instance does not exist')

    def fail(self, error: NotSent) -> ApiError:
        """Give the claim back; returns what the caller is told."""
        self.message.release_claim()
        return ApiError(error.message, status_code=error.status)


def send_text(instance: Instance, validated: dict[str, Any]) -> dict[str, Any]:
    """Send it and return Evolution API's message object; for threads. Raises what `Sending` raises, and Refused."""
    sending = Sending(instance, validated)
    sending.begin()
    if sending.is_repeat:
        return sending.message.as_event()
    if not connection.in_atomic_block:
        close_old_connections()  # while WhatsApp is asked, others may have it
    try:
        wa_id = http_client.run(sending.deliver())
    except NotSent as error:
        raise sending.fail(error) from None
    return sending.finish(wa_id)
