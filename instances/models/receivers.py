"""Announce created and deleted instances, and bump the access revision for API keys, staff users, their roles and their
sessions, whether by REST, admin or shell.

(`Instance.save` bumps it for a new name or token of an instance, because it knows the former ones.)
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete
from django.dispatch import receiver
from django.utils import timezone

from instances.events import EventType, announce
from instances.models import AccessRevision, ApiKey, Instance, StaffRole


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
@receiver((post_save, post_delete), sender=StaffRole)
@receiver(post_delete, sender=User)
@receiver(post_delete, sender=Group)
def bump_revision(**kwargs: Any) -> None:
    AccessRevision.bump()


@receiver(m2m_changed, sender=ApiKey.instances.through)
@receiver(m2m_changed, sender=StaffRole.instances.through)
@receiver(m2m_changed, sender=User.user_permissions.through)
@receiver(m2m_changed, sender=User.groups.through)
@receiver(m2m_changed, sender=Group.permissions.through)
def bump_revision_for_relations(action: str, pk_set: set[Any] | None, **kwargs: Any) -> None:
    if action == "post_clear" or (action in ("post_add", "post_remove") and pk_set):
        AccessRevision.bump()


@receiver(post_save, sender=User)
def bump_revision_for_user(update_fields: Any = None, **kwargs: Any) -> None:
    """Bump the revision, as the user may have been deactivated, or has another password; not for each log-in."""
    if update_fields is None or set(update_fields) != {"last_login"}:
        AccessRevision.bump()


@receiver(post_delete, sender=Session)
def bump_revision_for_session(instance: Session, **kwargs: Any) -> None:
    """Bump the revision when a user logs out. Expired sessions, which are deleted many at a time, count no more."""
    session = instance
    if session.expire_date > timezone.now() and SESSION_KEY in session.get_decoded():
        AccessRevision.bump()


def _identity(whatsapp: Instance) -> dict[str, str]:
    return {"instanceName": whatsapp.name, "instanceId": str(whatsapp.pk)}
