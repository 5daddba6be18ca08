"""Instances come and go by REST, by the admin and by a shell: whoever does it, the world hears of it."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save, pre_delete
from django.dispatch import receiver

from instances.events import EventType, announce
from instances.models import Instance


@receiver(post_save, sender=Instance)
def announce_creation(instance: Instance, created: bool, raw: bool = False, **kwargs: Any) -> None:
    whatsapp = instance  # Django calls every row so; ours is a WhatsApp number
    if created and not raw:
        announce(EventType.INSTANCE_CREATE, whatsapp, _identity(whatsapp))


@receiver(pre_delete, sender=Instance)
def announce_deletion(instance: Instance, **kwargs: Any) -> None:
    """Before its rows go, in the transaction that removes them."""
    whatsapp = instance
    announce(EventType.INSTANCE_DELETE, whatsapp, _identity(whatsapp))
    announce(EventType.REMOVE_INSTANCE, whatsapp, None)


def _identity(whatsapp: Instance) -> dict[str, str]:
    return {"instanceName": whatsapp.name, "instanceId": str(whatsapp.pk)}
