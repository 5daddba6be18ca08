from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from instances.events import DEFAULT_EVENTS, SUBSCRIBABLE, EventType
from instances.fields import JsonField
from instances.models.instance import Instance


class SubscriptionQuerySet(models.QuerySet["Subscription"]):
    def for_sockets(self) -> SubscriptionQuerySet:
        return self.filter(transport=Subscription.WEBSOCKET)


class Subscription(models.Model):
    """Which events of an instance (or of all) go out over one transport."""

    WEBSOCKET = "websocket"

    instance = models.ForeignKey(
        Instance, models.CASCADE, null=True, blank=True, related_name="subscriptions", help_text="Empty: all instances."
    )
    transport = models.CharField(max_length=32, default=WEBSOCKET)
    is_enabled = models.BooleanField("enabled", default=True)
    events = JsonField(default=list, blank=True)
    options = JsonField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SubscriptionQuerySet.as_manager()

    class Meta:
        ordering = ("instance", "transport", "id")
        constraints = (
            models.UniqueConstraint(
                fields=("instance",), condition=Q(transport="websocket"), name="one_websocket_subscription"
            ),
        )

    def __str__(self) -> str:
        return f"{self.instance or 'all instances'}: {self.transport}"

    def clean(self) -> None:
        if unknown := [name for name in self.events if name not in SUBSCRIBABLE]:
            raise ValidationError({"events": f"There is no event {', '.join(map(str, unknown))}"})

    def wants(self, event_type: EventType) -> bool:
        return self.is_enabled and event_type.is_wanted_by(self.events)

    @classmethod
    def set_websocket(cls, instance: Instance, is_enabled: bool, events: list[str]) -> Subscription:
        """Evolution's rules: an empty list means all events, and one that is off keeps none."""
        wanted = (events or DEFAULT_EVENTS) if is_enabled else []
        subscription, _ = cls.objects.update_or_create(
            instance=instance,
            transport=cls.WEBSOCKET,
            defaults={"is_enabled": is_enabled, "events": wanted},
        )
        return subscription
