"""All models of the app, for Django and the migrations. Other code imports each from the package that defines it."""

from realtime.counters.models import CounterPosition, EndpointHour, HourTotal, InstanceHour
from realtime.delivery.bodies import Body
from realtime.delivery.models import Attempt, Delivery, FormerEndpoint
from realtime.inbox.models import Inbox, InboxRequest
from realtime.log.coalescing import Burst
from realtime.log.models import DedupeKey, Event, TransactionId
from realtime.log.stream import Stream, new_epoch
from realtime.operation.models import Process

__all__ = [
    "Attempt",
    "Body",
    "Burst",
    "CounterPosition",
    "DedupeKey",
    "Delivery",
    "EndpointHour",
    "Event",
    "FormerEndpoint",
    "HourTotal",
    "Inbox",
    "InboxRequest",
    "InstanceHour",
    "Process",
    "Stream",
    "TransactionId",
    "new_epoch",
]
