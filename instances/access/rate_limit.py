"""Rate limits, per process: failed authentications by address, and events that clients emit by key.

Nothing is stored for a request: a subject has one bucket, however often it comes, and the buckets are bounded.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address, ip_network

from instances.bounds import (
    CLIENT_EVENTS,
    CLIENT_EVENTS_PER_SECOND,
    RATE_LIMITED,
    WRONG_KEYS,
    WRONG_KEYS_PER_SECOND,
)

#: Buckets that are kept. The least recently used are dropped, and so are full again: that only loosens the limit.
MAX_BUCKETS = RATE_LIMITED


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
        with self._lock:
            tokens = self._pop(subject)
            is_within = tokens >= 1
            self._store(subject, tokens - 1 if is_within else tokens)
        return is_within

    def give_back(self, subject: Hashable) -> None:
        """Return a token that `allows` has taken, for what turned out not to count."""
        with self._lock:
            self._store(subject, min(self.burst, self._pop(subject) + 1))

    def seconds_until_allowed(self, subject: Hashable) -> float:
        """Return the seconds until the subject's bucket has a token; 0 if it has one."""
        with self._lock:
            tokens = self._pop(subject)
            self._store(subject, tokens)
        return max(0.0, (1 - tokens) / self.rate)

    def _pop(self, subject: Hashable) -> float:
        """Remove the subject's bucket and return its tokens, refilled until now."""
        now = time.monotonic()
        tokens, refilled_at = self._buckets.pop(subject, (float(self.burst), now))
        return min(self.burst, tokens + (now - refilled_at) * self.rate)

    def _store(self, subject: Hashable, tokens: float) -> None:
        self._buckets[subject] = (tokens, time.monotonic())
        while len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)


class AddressLimiter(RateLimiter):
    """Buckets by client address. The addresses of an IPv6 subscriber, a /64 network, share one."""

    def allows(self, subject: Hashable) -> bool:
        return super().allows(network_of(str(subject)))


def network_of(address: str) -> str:
    """Return the /64 network of an IPv6 address, and any other text as it is; IPv4-mapped addresses are IPv4."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(parsed.ipv4_mapped or ip_network((parsed.packed, 64), strict=False))


#: Wrong keys, by address. Right keys are never limited: a whole office may share an address.
failed_authentications = AddressLimiter(WRONG_KEYS_PER_SECOND, WRONG_KEYS)

#: Events that clients emit, by key.
client_events = RateLimiter(CLIENT_EVENTS_PER_SECOND, CLIENT_EVENTS)
