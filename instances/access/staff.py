"""Staff users: the instances that each may see, and whether he may read what messages say."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from instances.models import Instance


def sees_all_instances(user: Any) -> bool:
    """Return whether the user is limited to no list of instances; he may see global rows, too."""
    return True


def visible_instances(user: Any) -> QuerySet[Instance]:
    """Return the instances that a user may see, by whichever page."""
    return Instance.objects.all()


def sees_instance(user: Any, instance_id: UUID | None) -> bool:
    """Return whether a user may see this instance, or for None what belongs to all instances."""
    return True


def sees_content(user: Any) -> bool:
    """Return whether a user may read bodies of messages, events and deliveries, QR and pairing codes."""
    return True
