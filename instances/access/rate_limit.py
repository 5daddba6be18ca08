"""Rate limits, per process: failed authentications by address, and events that clients emit by key."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable

#: Buckets that are kept. The least recently used are dropped, and so are full again: that only loosens the limit.
MAX_BUCKETS = 10_000


class RateLimiter:
    """Token buckets of `burst` tokens, refilled at `rate` tokens a second, one for each subject.

    https://en.wikipedia.org/wiki/Token_bucket
    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def allows(self, subject: Hashable) -> bool:
        """Take a token from the subject's bucket; returns False if it was empty."""
        now = time.monotonic()
        with self._lock:
            tokens, refilled_at = self._buckets.pop(subject, (float(self.burst), now))
            tokens = min(self.burst, tokens + (now - refilled_at) * self.rate)
            is_within = tokens >= 1
            self._buckets[subject] = (tokens - 1 if is_within else tokens, now)
            while len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        return is_within


#: Wrong keys, by address. Right keys are never limited: a whole office may share an address.
failed_authentications = RateLimiter(rate=10, burst=1000)

#: Events that clients emit, by key.
client_events = RateLimiter(rate=100, burst=1000)
