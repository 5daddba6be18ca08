"""The budget for the bytes that this process holds for others: bodies of requests until they are answered, and large
responses until their clients have taken them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable

from instances.bounds import MAX_HELD_BYTES, SMALL_BODY
from instances.errors import ApiError

logger = logging.getLogger(__name__)

#: Seconds after which a refused client should try again.
RETRY_AFTER = 5
#: Seconds between two log lines about refused requests.
LOG_INTERVAL = 60
MIB = 1024 * 1024


class Overloaded(ApiError):
    """The refusal of a request that the server has no room for at the moment: 503 with Retry-After."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; try again in {RETRY_AFTER} seconds", 503)


class Account:
    """The bytes that are held for one holder, or for all together. Of its share a quarter is kept for small bodies."""

    def __init__(self, share: int) -> None:
        self.share = share
        self.held = self.large = 0

    def fits(self, held: int, large: int) -> bool:
        """Return whether so many bytes more may be held, `large` of them in a large body. One body always may."""
        is_full = self.held > 0 and self.held + held > self.share
        is_full_of_large = large > 0 and self.large > 0 and self.large + large > self.share * 3 // 4
        return not (is_full or is_full_of_large)

    def add(self, held: int, large: int) -> None:
        self.held += held
        self.large += large


class Budget:
    """The accounts of all holders: a key, or all strangers together, has half. Used on the event loop alone."""

    def __init__(self) -> None:
        self._all = Account(MAX_HELD_BYTES)
        self._holders: dict[Hashable, Account] = {}
        self._refused = 0
        self._logged_at = -float("inf")

    @property
    def is_full(self) -> bool:
        """True while no large body fits, whoever sends it."""
        return not self._all.fits(SMALL_BODY, SMALL_BODY)

    def charge(self, holder: Hashable = None) -> Charge:
        """Return a charge of no bytes; `holder` is the access of a valid key, or None for a stranger."""
        return Charge(self, holder)

    def refusal(self, reason: str = "") -> Overloaded:
        """Return the refusal of a request, by default because of the bytes held; a line a minute is logged of them."""
        self._refused += 1
        now = time.monotonic()
        if now >= self._logged_at + LOG_INTERVAL:
            logger.warning(
                "Overloaded: %s requests were answered 503 since the last such line; the last one because %s. "
                "Held: %.1f of %.1f MiB, %.1f of them in bodies over %s KiB and %.1f for clients without a known key",
                self._refused,
                reason or "too many bytes are held",
                self._all.held / MIB,
                self._all.share / MIB,
                self._all.large / MIB,
                SMALL_BODY // 1024,
                self.account(None).held / MIB,
            )
            self._refused, self._logged_at = 0, now
        return Overloaded(f"The server is overloaded: {reason or 'it holds as many bytes of its clients as it may'}")

    def account(self, holder: Hashable) -> Account:
        return self._holders.get(holder) or Account(MAX_HELD_BYTES // 2)

    def fits(self, holder: Hashable, held: int, large: int) -> bool:
        return self._all.fits(held, large) and self.account(holder).fits(held, large)

    def add(self, holder: Hashable, held: int, large: int) -> None:
        account = self.account(holder)
        for each in (self._all, account):
            each.add(held, large)
        if account.held:
            self._holders[holder] = account
        else:
            self._holders.pop(holder, None)


class Charge:
    """The bytes that are held for one request; the block of its `with` statement releases them at its end."""

    def __init__(self, budget: Budget, holder: Hashable) -> None:
        self.budget = budget
        self.holder = holder
        self.size = 0

    @property
    def _large(self) -> int:
        return self.size if self.size > SMALL_BODY else 0

    def hold(self, size: int) -> bool:
        """Hold so many bytes in all, and return True; if they do not fit, change nothing and return False."""
        if size <= self.size:
            return True
        held, large = size - self.size, (size if size > SMALL_BODY else 0) - self._large
        if not self.budget.fits(self.holder, held, large):
            return False
        self.budget.add(self.holder, held, large)
        self.size = size
        return True

    def assign(self, holder: Hashable) -> None:
        """Charge these bytes to another holder."""
        self.budget.add(self.holder, -self.size, -self._large)
        self.holder = holder
        self.budget.add(self.holder, self.size, self._large)

    def __enter__(self) -> Charge:
        return self

    def __exit__(self, *error: object) -> None:
        self.budget.add(self.holder, -self.size, -self._large)
        self.size = 0


#: The budget of this process.
held_bytes = Budget()
