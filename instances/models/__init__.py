"""Models of WhatsApp numbers, one concept a file. Other packages import them from here."""

from instances.models.access_revision import AccessRevision
from instances.models.api_key import ApiKey
from instances.models.chat import Chat, MessageCount
from instances.models.contact import Contact
from instances.models.early_status import EarlyStatus
from instances.models.fingerprint import Fingerprint
from instances.models.installation import Installation
from instances.models.instance import ConnectionState, Instance
from instances.models.message import Message, SendOutcomeUnknown, SendUnderWay
from instances.models.message_key import message_key
from instances.models.message_states import MessageState
from instances.models.message_status import MessageStatus
from instances.models.proxy import Proxy
from instances.models.receipts import record_read
from instances.models.staff_role import StaffRole
from instances.models.subscription import Subscription
from instances.models.template import Template

__all__ = [
    "AccessRevision",
    "ApiKey",
    "Chat",
    "ConnectionState",
    "Contact",
    "EarlyStatus",
    "Fingerprint",
    "Installation",
    "Instance",
    "Message",
    "MessageCount",
    "MessageState",
    "MessageStatus",
    "Proxy",
    "SendOutcomeUnknown",
    "SendUnderWay",
    "StaffRole",
    "Subscription",
    "Template",
    "message_key",
    "record_read",
]
