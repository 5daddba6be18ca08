"""The budget for the bytes that this process holds for others: bodies of requests until they are answered, and large
responses until their clients have taken them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable

from instances.bounds import INCOMPLETE_SECONDS, MAX_HELD_BYTES, SMALL_BODY
from instances.errors import ApiError
from instances.ingress import memory

logger = logging.getLogger(__name__)

#: Seconds after which a refused client should try again.
RETRY_AFTER = 5
#: Seconds between two log lines about refused requests.
LOG_INTERVAL = 60
MIB = 1024 * 1024
#: Released bytes after which the process gives free memory back to the system, and seconds that it gathers more first.
TRIM_AFTER, TRIM_DELAY = 8 * MIB, 1


class Overloaded(ApiError):
    """The refusal of a request that the server has no room for at the moment: 503 with Retry-After."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; try again in {RETRY_AFTER} seconds", 503)


class Account:
    """The bytes that are held for one holder, or for all together. Of its share a quarter is kept for small bodies."""

    def __init__(self, share: int) -> None:
        self.share = share
        self.held = self.large = 0

    def fits(self, before: int, after: int) -> bool:
        """Return whether one of its bodies may grow so. The only one always may, whatever the share is."""
        others = self.held - before
        if others > 0 and others + after > self.share:
            return False
        if after <= SMALL_BODY:
            return True
        large_others = self.large - _large(before)
        return large_others <= 0 or large_others + after <= self.share * 3 // 4

    def change(self, before: int, after: int) -> None:
        self.held += after - before
        self.large += _large(after) - _large(before)


def _large(size: int) -> int:
    return size if size > SMALL_BODY else 0


class Budget:
    """The accounts of all holders: a key, or all strangers together, has half. Used on the event loop alone.

    Where strangers have used their half up, the oldest request of theirs that is not complete gives way to a new one:
    nobody keeps it by sending slowly.
    """

    def __init__(self) -> None:
        self._all = Account(MAX_HELD_BYTES)
        self._holders: dict[Hashable, Account] = {}
        #: The charges of strangers' requests that are not complete, the oldest first, and since when.
        self._incomplete: dict[Charge, float] = {}
        self._refused = 0
        self._logged_at = -float("inf")
        self._released = 0

    @property
    def is_full(self) -> bool:
        """True while no large body fits, whoever sends it."""
        return not self._all.fits(0, SMALL_BODY + 1)

    def charge(self, holder: Hashable = None) -> Charge:
        """Return a charge of no bytes; `holder` is the access of a valid key, the address of a client that has
        joined a namespace, or None for a stranger.
        """
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

    def fits(self, holder: Hashable, before: int, after: int) -> bool:
        return self._all.fits(before, after) and self.account(holder).fits(before, after)

    def make_room(self, newcomer: Charge) -> bool:
        """Have the oldest of strangers' incomplete requests give way, if it has had LIMIT_INCOMPLETE_SECONDS.

        Returns False if there is none besides the newcomer.
        """
        oldest = next(((charge, began) for charge, began in self._incomplete.items() if charge is not newcomer), None)
        if oldest is None or oldest[1] > time.monotonic() - INCOMPLETE_SECONDS:
            return False
        charge, _ = oldest
        charge.hold(0)
        if charge.give_way:
            charge.give_way()
        return True

    def note_incomplete(self, charge: Charge) -> None:
        """Note, or forget, whether a charge is of a stranger's request that is not complete."""
        if charge.holder is None and charge.size and charge.give_way:
            self._incomplete.setdefault(charge, time.monotonic())
        else:
            self._incomplete.pop(charge, None)

    def change(self, holder: Hashable, before: int, after: int) -> None:
        self._all.change(before, after)
        self._change_of(holder, before, after)
        if after < before:
            self.note_released(before - after)

    def move(self, size: int, holder: Hashable, other: Hashable) -> None:
        """Charge bytes of one holder to another one."""
        self._change_of(holder, size, 0)
        self._change_of(other, 0, size)

    def _change_of(self, holder: Hashable, before: int, after: int) -> None:
        account = self.account(holder)
        account.change(before, after)
        if account.held:
            self._holders[holder] = account
        else:
            self._holders.pop(holder, None)

    def note_released(self, size: int) -> None:
        """Trim memory after many bytes: bodies that came in pieces leave holes in the heaps."""
        is_due = self._released < TRIM_AFTER <= self._released + size
        self._released += size
        if is_due:
            asyncio.get_running_loop().call_later(TRIM_DELAY, self._trim)

    def _trim(self) -> None:
        self._released = 0
        asyncio.get_running_loop().run_in_executor(None, memory.trim)


class Charge:
    """The bytes that are held for one request; the end of its `with` block releases them."""

    def __init__(self, budget: Budget, holder: Hashable) -> None:
        self._budget = budget
        self.size = 0
        self.holder = holder
        #: Ends the request with a refusal; None for one that is complete, which is not ended.
        self.give_way: Callable[[], None] | None = None

    def hold(self, size: int) -> bool:
        """Hold so many bytes, and return True; if they are more than before and do not fit, return False."""
        if size == self.size:
            return True
        while size > self.size and not self._budget.fits(self.holder, self.size, size):
            if self.holder is not None or not self._budget.make_room(self):
                return False
        self._budget.change(self.holder, self.size, size)
        self.size = size
        self._budget.note_incomplete(self)
        return True

    def complete(self) -> None:
        """Note that the request is complete: from here on it gives way to no other."""
        self.give_way = None
        self._budget.note_incomplete(self)

    def assign(self, holder: Hashable) -> None:
        """Charge these bytes to another holder."""
        self._budget.move(self.size, self.holder, holder)
        self.holder = holder
        self._budget.note_incomplete(self)

    def __enter__(self) -> Charge:
        return self

    def __exit__(self, *error: object) -> None:
        self.hold(0)


#: The budget of this process.
held_bytes = Budget()
