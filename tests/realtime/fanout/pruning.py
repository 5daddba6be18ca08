"""Pruning in the database of a running server."""

from __future__ import annotations

from tests.server import Number, Server


def prune(server: Server, instance: Number, upto: int) -> None:
    """Prune the instance's events up to this seq, as if they were too old."""
    server.shell(
        "from datetime import timedelta\n"
        "from django.utils import timezone\n"
        "from realtime.log.models import Event\n"
        "from realtime.log.retention import prune\n"
        "old = timezone.now() - timedelta(days=30)\n"
        f"Event.objects.filter(instance_id='{instance.id}', seq__lte={upto}).update(created_at=old)\n"
        "prune()"
    )
