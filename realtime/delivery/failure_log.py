"""Log lines about failed attempts: one for each endpoint and cause."""

from __future__ import annotations

import logging
from collections import OrderedDict

from realtime.delivery.transports.base import Outcome, Result

logger = logging.getLogger(__name__)

#: Endpoints, and causes of each, that are remembered; beyond them the oldest ones are forgotten, and logged anew.
ENDPOINTS, CAUSES = 10_000, 8


class FailureLog:
    """Logs why attempts fail: an operator reads what to set, and a receiver that is down does not fill the log."""

    def __init__(self) -> None:
        #: The causes that were logged since an endpoint's last success.
        self._logged: OrderedDict[int, OrderedDict[str, None]] = OrderedDict()

    def note(self, endpoint_id: int, outcome: Outcome) -> None:
        """Log the outcome of an attempt, if it is a failure of a new kind."""
        if outcome.result is Result.DELIVERED:
            self._logged.pop(endpoint_id, None)
            return
        cause = outcome.error or f"HTTP {outcome.status}"
        causes = self._logged.setdefault(endpoint_id, OrderedDict())
        if cause not in causes:
            logger.warning("An attempt of endpoint %s failed: %s. Repetitions are not logged", endpoint_id, cause)
        causes[cause] = None
        for remembered, limit in ((causes, CAUSES), (self._logged, ENDPOINTS)):
            if len(remembered) > limit:
                remembered.popitem(last=False)
