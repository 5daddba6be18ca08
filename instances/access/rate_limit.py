"""Limits on how often: failed authentications by address, and what clients send by key. Kept in this process alone."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable

#: Whom we remember at most; those not seen for longest are forgotten, which can only be to their advantage.
MAX_REMEMBERED = 10_000


class RateLimiter:
    """Token buckets: `burst` at once, and `rate` a second after that, for each of those who come."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def allows(self, who: Hashable) -> bool:
        """Count one more; returns whether it is within the limit."""
        now = time.monotonic()
        with self._lock:
            left, seen = self._buckets.pop(who, (float(self.burst), now))
            left = min(self.burst, left + (now - seen) * self.rate)
            is_within = left >= 1
            self._buckets[who] = (left - 1 if is_within else left, now)
            while len(self._buckets) > MAX_REMEMBERED:
                self._buckets.popitem(last=False)
        return is_within


#: Wrong keys from one address. Right ones are never held up by it: a whole office may share an address.
failed_authentications = RateLimiter(rate=10, burst=1000)

#: What one key's clients emit.
client_events = RateLimiter(rate=100, burst=1000)
