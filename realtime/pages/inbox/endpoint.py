"""Sending an instance's events to an inbox: an endpoint with the inbox's URL, and a test event at once."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.db import transaction

from instances.access.rights import Action, may
from instances.api.webhook import apply_changes, new_endpoint, require_room, webhooks_of
from instances.errors import ApiError
from instances.events import EventType
from instances.models import Instance, Subscription
from realtime.delivery.resend import send_test


def send_events(instance: Instance, url: str, user: Any) -> Subscription:
    """Add an endpoint for all events of an instance, unless it has one with this URL, and send it a test event.

    Raises ApiError if the user may not, or the instance has as many endpoints as it may.
    """
    if not may(user, Action.ADD_WEBHOOK):
        raise ApiError("You may not add endpoints", 403)
    with transaction.atomic():
        locked = Instance.objects.select_for_update().filter(pk=instance.pk).first()
        if locked is None:
            raise ApiError(f'The "{instance.name}" instance does not exist', 404)
        endpoint = next((each for each in webhooks_of(locked) if each.options.get("url") == url), None)
        if endpoint is None:
            require_room(locked)
            endpoint = _add(locked, url, user)
        if endpoint.is_enabled and may(user, Action.SEND_TEST):
            send_test(locked, EventType.MESSAGES_UPSERT, [endpoint], f"{user.get_username()} in the inbox")
            _log(user, endpoint, CHANGE, "Sent a test event to an inbox.")
    return endpoint


def _add(instance: Instance, url: str, user: Any) -> Subscription:
    endpoint = new_endpoint(instance)
    apply_changes(endpoint, {"url": url})
    endpoint.save()
    _log(user, endpoint, ADDITION, "Added for an inbox.")
    return endpoint


def _log(user: Any, endpoint: Subscription, action: int, text: str) -> None:
    LogEntry.objects.log_actions(user.pk, [endpoint], action, change_message=text, single_object=True)
