"""The log in the admin, where each instance stands in it, and what endpoints are owed of it."""

from realtime.admin.base import BoundedPaginator
from realtime.admin.delivery import DeliveryAdmin
from realtime.admin.endpoint import EndpointSubscriptionAdmin
from realtime.admin.instance import LoggedInstanceAdmin
from realtime.admin.log import EventAdmin, StreamAdmin

__all__ = [
    "BoundedPaginator",
    "DeliveryAdmin",
    "EndpointSubscriptionAdmin",
    "EventAdmin",
    "LoggedInstanceAdmin",
    "StreamAdmin",
]
