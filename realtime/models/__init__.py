"""The rows of all rooms, for Django and the migrations. The code imports each from the room that it belongs to."""

from realtime.delivery.models import Attempt, Delivery, FormerEndpoint
from realtime.log.coalescing import Burst
from realtime.log.models import DedupeKey, Event, TransactionId
from realtime.log.stream import Stream, new_epoch

__all__ = [
    "Attempt",
    "Burst",
    "DedupeKey",
    "Delivery",
    "Event",
    "FormerEndpoint",
    "Stream",
    "TransactionId",
    "new_epoch",
]
