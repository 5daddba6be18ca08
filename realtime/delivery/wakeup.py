"""Wakes the dispatchers of this process when a delivery is committed; a poll each second finds those of others."""

from __future__ import annotations

from collections.abc import Callable

#: Callbacks of dispatchers, called from any thread.
listeners: set[Callable[[], object]] = set()


def wake() -> None:
    """Wake the dispatchers; called after the commit."""
    for listener in list(listeners):
        try:
            listener()
        except RuntimeError:  # its loop is closed
            listeners.discard(listener)
