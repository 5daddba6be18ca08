"""Access to Django's commit hooks, `connection.run_on_commit`: no other module reads or changes that list.

Django (5.2) appends to it what `transaction.on_commit` registers, as (ids of the open savepoints, hook, is_robust). It
replaces the list by one without the hooks of a savepoint that is rolled back, and calls the others after the commit.
The list is not part of Django's public API, which neither changes the hooks of others nor says before the commit which
hooks are left. tests/instances/ingress/test_commit_hooks.py fails when a new version of Django changes any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

Hook = Callable[[], object]


@contextmanager
def robust_hooks() -> Iterator[None]:
    """Make the hooks that are registered within the block robust: an error in one is logged, and the others run.

    This is `transaction.on_commit(…, robust=True)` for the hooks of receivers that do not pass it. Without it, an error
    after the commit would fail requests that are stored, and drop the hooks of other requests.
    """
    begin = len(connection.run_on_commit)  # the caller may have a transaction with hooks of its own
    yield
    hooks: list[Any] = connection.run_on_commit
    hooks[begin:] = [(savepoints, _named(hook), True) for savepoints, hook, _ in hooks[begin:]]


def remove_hooks(hooks: Collection[Hook]) -> set[Hook]:
    """Unregister hooks. Returns the hooks that were still registered, as none of their savepoints was rolled back.

    Django's own way is to call a hook after the commit, or not; this is known before. If it went wrong, events of a
    savepoint that was rolled back would be recorded, or other events lost.
    """
    registered: list[Any] = connection.run_on_commit
    removed = set(hooks)
    found = {hook for _, hook, _ in registered if hook in removed}
    registered[:] = [entry for entry in registered if entry[1] not in removed]
    return found


def _named(hook: Hook) -> Hook:
    """Wrap a hook in a function: Django logs the `__qualname__` of a robust hook that fails; a partial has none."""
    return lambda: hook()
