"""Admin pages of the event log and of deliveries, and their columns on the pages of instances and subscriptions."""

from realtime.admin.delivery import DeliveryAdmin
from realtime.admin.endpoint import EndpointSubscriptionAdmin
from realtime.admin.instance import LoggedInstanceAdmin
from realtime.admin.log import EventAdmin, StreamAdmin
from realtime.admin.message import LoggedMessageAdmin
from realtime.admin.process import ProcessAdmin

__all__ = [
    "DeliveryAdmin",
    "EndpointSubscriptionAdmin",
    "EventAdmin",
    "LoggedInstanceAdmin",
    "LoggedMessageAdmin",
    "ProcessAdmin",
    "StreamAdmin",
]
