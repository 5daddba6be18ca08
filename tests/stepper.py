"""A deterministic event loop, which walks the orders in which database calls and changes from outside may happen.

On a real loop, threads of the database end at any time between two turns, and other processes change rows between any
two statements. Here a run is a list of choices: at each await and at each statement, what happens next. A run's choices
come from a seed, or from a list that is enumerated; the same choices give the same run. Time passes only when nothing
else can happen.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.db import OperationalError, connection, connections


class Choices:
    """The choices of a run: those of `prefix`, then of `seed`, or 0 without one. 0 is always what usually happens."""

    def __init__(self, prefix: tuple[int, ...] = (), seed: int | None = None) -> None:
        self.prefix = prefix
        self.random = None if seed is None else random.Random(seed)
        #: The choices that were made, each with its number of options.
        self.made: list[tuple[int, int]] = []

    def choose(self, count: int, probability: float) -> int:
        """Choose one of `count` options; with a seed, one other than 0 with this probability."""
        if len(self.made) < len(self.prefix):
            choice = min(self.prefix[len(self.made)], count - 1)
        elif self.random and count > 1 and self.random.random() < probability:
            choice = self.random.randrange(1, count)
        else:
            choice = 0
        self.made.append((choice, count))
        return choice

    def draw(self, *values: float) -> float:
        """Draw one of these values for the run, with a seed."""
        return self.random.choice(values) if self.random else values[0]


def every_run(run: Callable[[Choices], Any], deviations: int) -> Iterator[Any]:
    """Yield the result of each run that has up to so many choices other than 0."""
    prefixes: list[tuple[int, ...]] = [()]
    while prefixes:
        prefix = prefixes.pop()
        choices = Choices(prefix)
        yield run(choices)
        if sum(map(bool, prefix)) == deviations:
            continue
        made = [choice for choice, _ in choices.made]
        for index in range(len(prefix), len(made)):
            prefixes += [(*made[:index], other) for other in range(1, choices.made[index][1])]


class _Call:
    """A call in an executor: made, then run, then over."""

    def __init__(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.function = function
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_run = False


class Stepper(asyncio.SelectorEventLoop):
    """The loop. `changes` are functions to call from outside, in their order, at moments that are chosen."""

    def __init__(self) -> None:
        loop = self

        class Selector(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> list[Any]:
                loop._turn(timeout)
                return []

        self._now = 0.0
        self._calls: list[_Call] = []
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._choices: Choices | None = None
        self._changes: list[Callable[[], object]] = []
        #: With a seed: the probabilities that the next change is made now, that it is made before a statement, and that
        #: another call goes on than the one that was begun last.
        self._haste = self._statement_haste = self._switching = 0.0
        self._is_changing = False
        self._fails_next = False
        super().__init__(Selector())

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        self._calls.append(_Call(partial(func, *args), future))
        return future

    def explore(self, choices: Choices, changes: list[Callable[[], object]]) -> None:
        """Choose from here on, until all changes were made and time passes."""
        self._choices, self._changes = choices, list(changes)
        self._fails_next = False
        # each run has probabilities of its own: some orders are found by haste, others by patience
        self._haste = choices.draw(0.2, 0.5)
        self._statement_haste = choices.draw(0.0, 0.0, 0.1)
        self._switching = choices.draw(0.2, 0.45)

    def fail_next(self) -> None:
        """Let the next call fail as if the database were away; to be used as a change."""
        self._fails_next = True

    def close(self) -> None:
        self._thread.submit(connections.close_all).result()
        self._thread.shutdown()
        super().close()

    def _choose(self, count: int, probability: float) -> int:
        return self._choices.choose(count, probability) if self._choices else 0

    def _turn(self, timeout: float | None) -> None:
        """Let one thing happen between two turns of the loop; a `timeout` of 0 says that callbacks are ready."""
        self._calls = [call for call in self._calls if not call.future.done()]
        if timeout == 0:
            if self._calls and self._choices and (choice := self._choose(1 + len(self._calls), 0.02)):
                self._advance(self._calls[choice - 1])
            return
        if self._changes and self._choose(2, self._haste):
            self._thread.submit(self._change).result()
        elif self._calls:
            # usually, what was begun last goes on
            self._advance(self._calls[-1 - self._choose(len(self._calls), self._switching)])
        elif self._changes:
            self._thread.submit(self._change).result()
        else:
            self._choices = None
            if timeout is None:
                raise RuntimeError("Nothing can happen any more")
            self._now += timeout

    def _advance(self, call: _Call) -> None:
        """Run a call, or let a call that was run be over."""
        if call.is_run:
            if call.error is None:
                call.future.set_result(call.result)
            else:
                call.future.set_exception(call.error)
            return
        self._calls.remove(call)
        self._calls.append(call)
        call.is_run = True
        if self._fails_next and self._choices:
            self._fails_next, call.error = False, OperationalError("The database is away")
            return
        try:
            call.result = self._thread.submit(self._run, call.function).result()
        except Exception as error:
            call.error = error

    def _run(self, function: Callable[[], Any]) -> Any:
        with connection.execute_wrapper(self._before_statement):
            return function()

    def _before_statement(self, execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        can_change = self._changes and not self._is_changing and not connection.in_atomic_block
        if can_change and self._choose(2, self._statement_haste):
            self._change()
        return execute(sql, parameters, many, context)

    def _change(self) -> None:
        self._is_changing = True
        try:
            self._changes.pop(0)()
        finally:
            self._is_changing = False


@contextmanager
def stepper() -> Iterator[Stepper]:
    """Yield a loop that is set as the thread's own, and close it afterwards."""
    loop = Stepper()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()
