"""WhatsApp Web, paired by QR code; Evolution API's WHATSAPP-BAILEYS.

Instances can be created and configured. This server has no implementation of WhatsApp's protocol yet, so they stay
closed and send nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instances.models import ConnectionState, Instance
from instances.outbound_message import MessageKind, OutboundMessage
from instances.providers.base import NotSent, Provider
from instances.providers.whatsapp_web_rules import broken_rule


class WhatsAppWeb(Provider):
    integration = "WHATSAPP-BAILEYS"
    label = "WhatsApp Web"
    initial_state = ConnectionState.CLOSE.value
    takes_state = False
    sends = ()
    names_sender = True
    unavailable = 'The "{name}" instance is not connected'
    no_templates = "Method not available in the Baileys service"
    note = (
        "This server has no engine for WhatsApp Web: the instance stays closed and sends nothing. Drive an EVOLUTION "
        "instance with an engine of your own, or use WHATSAPP-BUSINESS"
    )

    def refusal(self, instance: Instance, kind: MessageKind, members: Mapping[str, Any]) -> str:
        if kind == MessageKind.TEMPLATE:
            return self.no_templates
        return broken_rule(kind, members) or super().refusal(instance, kind, members)

    async def send(self, instance: Instance, message: OutboundMessage) -> str:
        raise NotSent(self.unavailable.format(name=instance.name))
