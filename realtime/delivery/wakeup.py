"""Wakes the dispatchers of this process when something is owed; a look once a second finds what nobody reports."""

from __future__ import annotations

from collections.abc import Callable

#: Called from any thread.
listeners: set[Callable[[], object]] = set()


def wake() -> None:
    """Something is committed that is to be delivered."""
    for listener in list(listeners):
        try:
            listener()
        except RuntimeError:  # its loop is closed
            listeners.discard(listener)
