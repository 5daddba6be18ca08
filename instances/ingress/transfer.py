"""Deadlines of bodies and responses, by the bytes that have passed."""

from __future__ import annotations

from instances.bounds import BODY_RATE


class Transfer:
    """The progress of bytes in one direction, and the deadline of the next ones. Times are in seconds."""

    def __init__(self, now: float, patience: float) -> None:
        #: Seconds that it may pause, and that it may take in addition to the time for its bytes at BODY_RATE.
        self.patience = patience
        self.began = self.moved_at = now
        #: Bytes transferred so far.
        self.moved = 0

    def move(self, size: int, now: float) -> None:
        self.moved += size
        self.moved_at = now

    @property
    def deadline(self) -> float:
        return self.patience + min(self.moved_at, self.began + self.moved / BODY_RATE)
