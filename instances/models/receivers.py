"""Announce created and deleted instances, and bump the access revision for API keys, whether by REST, admin or shell.

(`Instance.save` bumps it for a new name or token of an instance, because it knows the former ones.)
"""

from __future__ import annotations

from typing import Any

from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete
from django.dispatch import receiver

from instances.events import EventType, announce
from instances.models import AccessRevision, ApiKey, Instance


@receiver(post_save, sender=Instance)
def announce_creation(instance: Instance, created: bool, raw: bool = False, **kwargs: Any) -> None:
    whatsapp = instance  # Django calls any model's row `instance`; this one is a WhatsApp number
    if created and not raw:
        announce(EventType.INSTANCE_CREATE, whatsapp, _identity(whatsapp))


@receiver(pre_delete, sender=Instance)
def announce_deletion(instance: Instance, **kwargs: Any) -> None:
    """Announce the deletion before the rows are deleted, in the same transaction."""
    whatsapp = instance
    announce(EventType.INSTANCE_DELETE, whatsapp, _identity(whatsapp))
    announce(EventType.REMOVE_INSTANCE, whatsapp, None)


@receiver(post_delete, sender=Instance)
@receiver((post_save, post_delete), sender=ApiKey)
def bump_revision(**kwargs: Any) -> None:
    AccessRevision.bump()


@receiver(m2m_changed, sender=ApiKey.instances.through)
def bump_revision_for_instances(action: str, pk_set: set[Any] | None, **kwargs: Any) -> None:
    if action == "post_clear" or (action in ("post_add", "post_remove") and pk_set):
        AccessRevision.bump()


def _identity(whatsapp: Instance) -> dict[str, str]:
    return {"instanceName": whatsapp.name, "instanceId": str(whatsapp.pk)}
