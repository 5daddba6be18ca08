"""The inbound doors: what providers have parsed becomes rows and events, all of a request in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.db import OperationalError, transaction

from instances.models import Instance
from instances.providers.base import Change

logger = logging.getLogger(__name__)

#: How often a transaction that the database gave up in favour of another one is tried.
ATTEMPTS = 3


def take(integration: str, changes: Iterable[Change]) -> set[str]:
    """Store and announce the changes of one request, all or none. Returns the names of the instances they belong to.

    Changes that belong to no instance are dropped with a log line: the number is not, or no longer, ours.
    """
    changes = list(changes)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with transaction.atomic():
                return _apply(integration, changes)
        except OperationalError as error:
            if attempt == ATTEMPTS or not _is_deadlock(error):
                raise
            logger.info("Two transactions waited for each other; trying again")
    raise AssertionError("unreachable")


def _apply(integration: str, changes: list[Change]) -> set[str]:
    numbers = {change.number for change in changes if change.number}
    business_ids = {change.business_id for change in changes if change.business_id}
    # in one order, and for as long as the transaction lasts: two requests cannot wait for each other
    instances = list(Instance.objects.addressed(integration, numbers, business_ids).locked())
    for instance in instances:
        for change in changes:
            if change.belongs_to(instance):
                change.apply(instance)
    for change in changes:
        if not any(change.belongs_to(instance) for instance in instances):
            logger.info("Nobody here has the number %r", change.number or f"of business {change.business_id}")
    return {instance.name for instance in instances}


def _is_deadlock(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", None) in ("40P01", "40001")
