"""Log lines about failed attempts: one an hour for each endpoint and cause."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict

from realtime.delivery.transports.base import Outcome, Result

logger = logging.getLogger(__name__)

#: Seconds until a failure of the same endpoint and cause is logged again.
INTERVAL = 3600
#: Pairs of endpoint and cause that are remembered; beyond them the oldest one is forgotten, and logged anew.
REMEMBERED = 10_000


class FailureLog:
    """Logs why attempts fail: an operator reads what to set, and a receiver that is down does not fill the log."""

    def __init__(self) -> None:
        #: When each pair was logged (time.monotonic), the oldest first.
        self._logged: OrderedDict[tuple[int, str], float] = OrderedDict()

    def note(self, endpoint_id: int, outcome: Outcome) -> None:
        """Log the outcome of an attempt, if it is a failure that was not logged lately."""
        if outcome.result is Result.DELIVERED:
            return
        cause = outcome.error or f"HTTP {outcome.status}"
        now = time.monotonic()
        if now < self._logged.get((endpoint_id, cause), -INTERVAL) + INTERVAL:
            return
        logger.warning("An attempt of endpoint %s failed: %s. Repetitions are logged hourly", endpoint_id, cause)
        self._logged[endpoint_id, cause] = now
        self._logged.move_to_end((endpoint_id, cause))
        if len(self._logged) > REMEMBERED:
            self._logged.popitem(last=False)
