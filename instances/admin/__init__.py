"""Admin pages of instances, API keys, subscriptions, messages, contacts, chats, users and groups."""

from instances.admin.api_key import ApiKeyAdmin
from instances.admin.base import ReadOnlyAdmin, admin_url, format_time, pretty_json
from instances.admin.instance import InstanceAdmin
from instances.admin.stored import ChatAdmin, ContactAdmin, MessageAdmin
from instances.admin.subscription import SubscriptionAdmin
from instances.admin.user import LimitedGroupAdmin, LimitedUserAdmin

__all__ = [
    "ApiKeyAdmin",
    "ChatAdmin",
    "ContactAdmin",
    "InstanceAdmin",
    "LimitedGroupAdmin",
    "LimitedUserAdmin",
    "MessageAdmin",
    "ReadOnlyAdmin",
    "SubscriptionAdmin",
    "admin_url",
    "format_time",
    "pretty_json",
]
