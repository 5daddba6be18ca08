"""Bodies of earlier versions, which stand in each delivery: moves them to bodies that the deliveries share.

Deliveries are sent, shown and resent before and after; so the move may stop and go on at any time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import ClassVar

from django.db import transaction

from instances.errors import DATABASE_ERRORS
from instances.sql import insert
from instances.unreadable import readable
from realtime.delivery.bodies import Body
from realtime.delivery.models import Delivery

logger = logging.getLogger(__name__)

#: Deliveries that one step looks at, and bytes of bodies after which it ends.
WINDOW, MAX_BYTES = 1000, 4 * 1024 * 1024

#: The member that differs between the endpoints of an event. Its last occurrence is the one: behind it are only texts,
#: in which JSON escapes quotes, and numbers.
_DESTINATION = re.compile(rb',"destination":"(?:[^"\\]|\\.)*"(?=,"(?:date_time|sender|server_url|apikey|id)":)')
#: Bytes at the end of a body that hold the member and those behind it.
_END = 16 * 1024


def share(deliveries: Iterable[Delivery]) -> None:
    """Move the bodies of those of these deliveries that have one of their own. Needs a transaction.

    The caller has locked the deliveries against pruning.
    """
    for delivery in deliveries:
        if delivery.shared_size is None:
            _share(delivery)


def _share(delivery: Delivery) -> None:
    whole = bytes(Delivery.objects.values_list("body", flat=True).get(pk=delivery.pk))
    data, offset, own_part = split(whole)
    insert([Body(event_id=delivery.event_id, transport=delivery.transport, data=data, offset=offset)], True)
    body = Body.objects.by_key([(delivery.event_id, delivery.transport)])[delivery.event_id, delivery.transport]
    if bytes(body.with_part(own_part)) != whole:
        # rendered by another version: its bytes must stay, so it keeps them
        return
    delivery.own_part, delivery.shared_size, delivery.body = own_part, len(data), b""
    delivery.save(update_fields=["own_part", "shared_size", "body"])


def split(whole: bytes) -> tuple[bytes, int, bytes]:
    """Split the bytes of a delivery; returns those to share, the offset at which its own are put in, and its own."""
    begin = max(len(whole) - _END, 0)
    found = list(_DESTINATION.finditer(whole, begin))
    if not found:
        return whole, 0, b""
    start, end = found[-1].span()
    return whole[:start] + whole[end:], start, whole[start:end]


class Moving:
    """A walk through the deliveries that existed when it began. Each step is a transaction of its own."""

    #: The id up to which this process has looked at all deliveries; new ones share their bodies.
    seen: ClassVar[int] = 0

    def __init__(self) -> None:
        self._last = Delivery.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        self._at = self.seen

    def step(self) -> bool:
        """Move some bodies; return False when the walk has ended."""
        rows = Delivery.objects.filter(pk__gt=self._at, pk__lte=self._last).order_by("pk")
        window = list(rows.values_list("pk", "shared_size", "size")[:WINDOW])
        if not window:
            Moving.seen = self._last
            return False
        inline: list[int] = []
        size = 0
        for pk, shared_size, own_size in window:
            self._at = pk
            if shared_size is None:
                inline.append(pk)
                size += own_size
            if size > MAX_BYTES:
                break
        with transaction.atomic():
            unlocked = Delivery.objects.filter(pk__in=inline).order_by("pk").select_for_update(skip_locked=True)
            for delivery in readable(unlocked.only(*_READ)):
                self._share(delivery)
        return True

    def _share(self, delivery: Delivery) -> None:
        """Move the body of a delivery; one that cannot be moved stays where it is, and keeps no other there."""
        try:
            with transaction.atomic():
                share([delivery])
        except DATABASE_ERRORS:
            raise
        except Exception:
            logger.exception("The body of delivery %s cannot be moved and stays where it is", delivery.pk)


#: The fields of a delivery that moving its body reads.
_READ = ("event_id", "transport", "shared_size", "size")
