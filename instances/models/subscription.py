from __future__ import annotations

from typing import Any

import orjson
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from instances.crypto import Secret, UnreadableSecret
from instances.events import DEFAULT_EVENTS, SUBSCRIBABLE, EventType, is_whole
from instances.fields import EncryptedField, JsonField
from instances.models.instance import Instance
from instances.unreadable import readable, unreadable

#: What is said of a subscription whose row cannot be read.
UNREADABLE = "The row of its endpoint cannot be read: the server's log says why"


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    def for_sockets(self) -> SubscriptionQuerySet:
        """Subscriptions of the websocket transport."""
        return self.filter(transport=Subscription.WEBSOCKET)

    def endpoints(self) -> SubscriptionQuerySet:
        """Subscriptions that get deliveries; sockets read the log instead."""
        return self.exclude(transport=Subscription.WEBSOCKET)

    def even_unreadable(self) -> list[Subscription]:
        """Return the subscriptions; in place of a row that cannot be read, one that says so (`unreadable`)."""
        found = readable(self, check=Subscription.check_shape)
        if unreadable.of(Subscription):
            rest = self.exclude(pk__in=[subscription.pk for subscription in found])
            columns = ("pk", "instance_id", "transport", "is_enabled")
            for row in rest.values(*columns):
                subscription = Subscription(**row)
                subscription.unreadable = UNREADABLE
                found.append(subscription)
        return found


class Subscription(models.Model):
    """The event types of an instance (or of all) that are sent over a transport; all but websockets are endpoints."""

    WEBSOCKET = "websocket"
    WEBHOOK = "webhook"
    RABBITMQ = "rabbitmq"

    instance = models.ForeignKey(
        Instance, models.CASCADE, null=True, blank=True, related_name="subscriptions", help_text="Empty: all instances."
    )
    transport = models.CharField(max_length=32, default=WEBSOCKET)
    is_enabled = models.BooleanField("enabled", default=True)
    events = JsonField(default=list, blank=True, help_text="Empty: all events.")
    options = JsonField(default=dict, blank=True, help_text="Destination and options of the transport.")
    #: A JSON object in one encrypted text; read by `secret`, written by `keep_secrets`.
    secrets = EncryptedField(null=True, blank=True, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_reason = models.CharField(
        max_length=255, default="", blank=True, editable=False, help_text="Reason, if the server disabled it."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SubscriptionQuerySet.as_manager()

    #: The reason why nothing but its transport is known, a sentence; empty for a row that was read.
    unreadable = ""

    class Meta:
        ordering = ("instance", "transport", "id")
        constraints = (
            models.UniqueConstraint(
                fields=("instance",), condition=Q(transport="websocket"), name="one_websocket_subscription"
            ),
        )

    def __str__(self) -> str:
        return f"{self.instance or 'all instances'}: {self.transport}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the subscription, with an empty list where it lists all of Evolution API's events."""
        if is_whole(self.events):
            self.events = []
        super().save(*args, **kwargs)

    def clean(self) -> None:
        if unknown := [name for name in self.events if name not in SUBSCRIBABLE]:
            raise ValidationError({"events": f"There is no event {', '.join(map(str, unknown))}"})

    def check_shape(self) -> None:
        """Raise ValueError for JSON that is no list of events, or no object of options: nobody could use it."""
        if not isinstance(self.events, list) or not isinstance(self.options, dict):
            raise ValueError("The events are no list, or the options no object")

    @property
    def is_endpoint(self) -> bool:
        return self.transport != self.WEBSOCKET

    def secret(self, name: str, default: Any = None) -> Any:
        """Return one of the encrypted values: `headers`, `signing`, … Raises UnreadableSecret."""
        return self.all_secrets.get(name, default)

    def shown_secret(self, name: str, default: Any = None) -> Any:
        """Return one of the encrypted values as `secret` does; the default if they cannot be read."""
        try:
            return self.secret(name, default)
        except UnreadableSecret:
            return default

    @property
    def shown_secrets(self) -> dict[str, Any]:
        """The encrypted values by name; none if they cannot be read."""
        try:
            return self.all_secrets
        except UnreadableSecret:
            return {}

    def keep_secrets(self, **secrets: Any) -> None:
        """Set some of the encrypted values without saving them. Raises UnreadableSecret: the others would be lost."""
        self.secrets = Secret(orjson.dumps(self.all_secrets | secrets).decode())

    @property
    def all_secrets(self) -> dict[str, Any]:
        """The encrypted values by name. Raises UnreadableSecret."""
        return orjson.loads(self.secrets.reveal()) if self.secrets else {}

    @property
    def shown_events(self) -> list[str]:
        """The names for clients: all of Evolution API's where an enabled subscription lists none, and so has all."""
        return self.events or (DEFAULT_EVENTS if self.is_enabled else [])

    def wants(self, event_type: EventType) -> bool:
        """Return whether it is enabled and has the event; an empty list stands for all events, our own types too."""
        is_listed = event_type.is_wanted_by(self.events) if self.events else event_type.is_subscribable
        return self.is_enabled and is_listed

    @classmethod
    def set_websocket(cls, instance: Instance, is_enabled: bool, events: list[str]) -> Subscription:
        """Store the websocket subscription. As in Evolution API, an empty list means all, and disabling clears it."""
        subscription, _ = cls.objects.update_or_create(
            instance=instance,
            transport=cls.WEBSOCKET,
            defaults={"is_enabled": is_enabled, "events": events if is_enabled else []},
        )
        return subscription
