"""Django's list of commit hooks is what `instances.ingress.commit_hooks` takes it for, in the version installed."""

from __future__ import annotations

from functools import partial

import django
import pytest
from django.db import connection, transaction

from instances.ingress.commit_hooks import remove_hooks, robust_hooks

pytestmark = pytest.mark.django_db(transaction=True)

CHANGED = f"Django {django.__version__} keeps commit hooks in another way: adapt instances/ingress/commit_hooks.py"


def nothing() -> None:
    pass


def fail() -> None:
    raise ZeroDivisionError


def test_hooks_are_tuples_of_savepoints_function_and_robustness():
    with transaction.atomic():
        transaction.on_commit(nothing)
        with transaction.atomic():
            transaction.on_commit(fail, robust=True)
            hooks = connection.run_on_commit
            assert isinstance(hooks, list), CHANGED
            assert all(isinstance(hook, tuple) and len(hook) == 3 for hook in hooks), CHANGED
            assert [hook[1:] for hook in hooks] == [(nothing, False), (fail, True)], CHANGED
            assert [(type(savepoints), len(savepoints)) for savepoints, _, _ in hooks] == [(set, 0), (set, 1)], CHANGED


def test_a_hook_is_dropped_when_its_savepoint_is_rolled_back():
    with transaction.atomic():
        transaction.on_commit(nothing)
        with transaction.atomic():
            transaction.on_commit(fail)
            transaction.set_rollback(True)
        assert [hook[1] for hook in connection.run_on_commit] == [nothing], CHANGED


def test_a_hook_with_an_error_is_logged_and_the_others_run(caplog):
    ran: list[int] = []
    with transaction.atomic(), robust_hooks():
        transaction.on_commit(partial(ran.append, 1))
        transaction.on_commit(fail)
        transaction.on_commit(partial(fail))
        transaction.on_commit(partial(ran.append, 2))
    assert ran == [1, 2], CHANGED
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError] * 2, CHANGED


def test_hooks_of_the_caller_stay_as_they_are():
    @transaction.atomic
    def commit() -> None:
        transaction.on_commit(fail)
        with transaction.atomic(), robust_hooks():
            transaction.on_commit(nothing)

    with pytest.raises(ZeroDivisionError):
        commit()


def test_removed_hooks_do_not_run_and_the_ones_rolled_back_are_not_returned():
    ran: list[str] = []

    def hook(name: str) -> partial[None]:
        return partial(ran.append, name)

    committed, released, rolled_back, other = map(hook, ("committed", "released", "rolled back", "other"))
    with transaction.atomic():
        transaction.on_commit(committed)
        with transaction.atomic():
            transaction.on_commit(released)
        with transaction.atomic():
            transaction.on_commit(rolled_back)
            transaction.set_rollback(True)
        transaction.on_commit(other)
        assert remove_hooks([committed, released, rolled_back]) == {committed, released}, CHANGED
    assert ran == ["other"], CHANGED
