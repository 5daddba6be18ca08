"""The doors where WhatsApp's events come in."""

from __future__ import annotations

import logging

from django.conf import settings
from rest_framework.exceptions import AuthenticationFailed

from instances.addresses import is_within
from instances.authentication import PUBLISH, Access, refusal
from instances.doors import Call, Door
from instances.errors import Refused
from instances.intake import SUCCESS, Changes
from instances.memory import Memory
from instances.models import Instance, Integration
from instances.providers import providers
from instances.providers.base import Change, InvalidPayload
from instances.providers.cloud_api import is_signed
from instances.transactions import Answer

logger = logging.getLogger(__name__)


class EvolutionDoor(Door):
    """POST /webhook/evolution, from whatever is the WhatsApp behind an instance of the Evolution channel."""

    path = "/webhook/evolution"

    def admit(self, call: Call, memory: Memory) -> EvolutionChanges:
        access = None
        if "apikey" in call.headers or not _is_open_to(call):
            access = memory.access(call.headers.get("apikey", ""))
            if access is None:
                raise refusal(call.address)
            if not access.may(PUBLISH):
                raise Refused("This key may not publish", 403)
        return EvolutionChanges(_parsed(Integration.EVOLUTION, call), access, memory)


class EvolutionChanges(Changes):
    def __init__(self, changes: list[Change], access: Access | None, memory: Memory) -> None:
        super().__init__(Integration.EVOLUTION, changes)
        self.access = access
        self.memory = memory

    def check(self, instances: list[Instance]) -> None:
        """A key that is not for all learns nothing of numbers: an unknown one is refused as a foreign one is."""
        if self.access is None or self.access.is_for_all or not self.changes:
            return
        if not instances or not all(self.memory.opens(self.access, instance) for instance in instances):
            raise AuthenticationFailed

    def answer(self) -> Answer:
        # clients know an unknown number by the empty answer
        return Answer(200, SUCCESS if self.names or not self.changes else b"")


def _is_open_to(call: Call) -> bool:
    allowed = settings.EVOLUTION_INGRESS_OPEN
    return allowed if isinstance(allowed, bool) else is_within(call.address, allowed)


class MetaDoor(Door):
    """POST /webhook/meta: what Meta posts for all numbers of an app, proven by its signature.

    https://developers.facebook.com/docs/graph-api/webhooks/getting-started
    """

    path = "/webhook/meta"

    def admit(self, call: Call, memory: Memory) -> Changes:
        if not settings.WA_BUSINESS_APP_SECRET:
            logger.error("POST /webhook/meta was refused: WA_BUSINESS_APP_SECRET is not set")
            raise Refused("Signatures cannot be checked: WA_BUSINESS_APP_SECRET is not set on this server", 403)
        signature = call.headers.get("x-hub-signature-256")
        if signature is None:
            raise AuthenticationFailed
        if not is_signed(call.body, signature, settings.WA_BUSINESS_APP_SECRET):
            raise Refused("The signature is not that of this body under the app secret", 403)
        return Changes(Integration.CLOUD_API, _parsed(Integration.CLOUD_API, call))


def _parsed(integration: str, call: Call) -> list[Change]:
    try:
        return providers()[integration].parse(call.body, call.headers)
    except InvalidPayload as error:
        raise Refused(str(error)) from None
