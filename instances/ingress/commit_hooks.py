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

    As with `transaction.on_commit(…, robust=True)`, for hooks of receivers that did not ask for it. Without it an error
    after the commit would fail requests that are stored, and drop the hooks of other requests. If Django changed the
    list, the hooks would be lost or called as they were registered.
    """
    begin = len(connection.run_on_commit)  # the caller may have a transaction with hooks of its own
    yield
    hooks: list[Any] = connection.run_on_commit
    hooks[begin:] = [(savepoints, _named(hook), True) for savepoints, hook, _ in hooks[begin:]]


def remove_hooks(hooks: Collection[Hook]) -> set[Hook]:
    """Unregister hooks. Returns those that were still registered: no savepoint that they belong to was rolled back.

    This is known before the commit; Django itself tells it only by not calling a hook. If Django changed the list,
    events of a savepoint that was rolled back could be recorded, or those of others could be lost.
    """
    registered: list[Any] = connection.run_on_commit
    removed = set(hooks)
    found = {hook for _, hook, _ in registered if hook in removed}
    registered[:] = [entry for entry in registered if entry[1] not in removed]
    return found


def _named(hook: Hook) -> Hook:
    """Wrap a hook in a function: Django logs the `__qualname__` of a robust hook that fails; a partial has none."""
    return lambda: hook()
