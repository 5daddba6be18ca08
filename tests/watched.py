"""Runs `manage.py` with a watchdog: python -m tests.watched serve 8080.

A timer asks the event loop for a turn over and over. Where the process spends MAX_CPU seconds of CPU time before that
turn comes, the log gets a line that begins with STALL and the stack of the loop's thread. CPU time and not the clock:
a busy machine, which runs other processes meanwhile, is no fault of the server's. For the same reason the time counts
not for which the loop's thread could have run, and had no core.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from functools import cache
from traceback import walk_stack
from types import FrameType
from typing import Any

from django.utils.module_loading import import_string

#: Seconds of the process's CPU time that a turn of the loop may be late.
MAX_CPU = 0.05
#: Seconds between two turns that the timer asks for.
INTERVAL = 0.005
#: What the line of a stall in the log begins with.
STALL = "WATCHDOG: the event loop had no turn for"
#: The line after its stack.
END = "WATCHDOG: end of the stack"


class Clocks:
    """The clocks of a thread of this process, in seconds."""

    def __init__(self, statistics: int | None) -> None:
        """`statistics` is an open file: the thread's schedstat, where the system has one."""
        self.cpu = time.process_time()
        self.running = time.monotonic() - _without_a_core(statistics)

    def since(self, earlier: Clocks) -> float:
        """Return the CPU time of the process since then, as far as the thread had a core or waited for the GIL."""
        return min(self.cpu - earlier.cpu, self.running - earlier.running)


def _without_a_core(statistics: int | None) -> float:
    """Return the seconds that a thread could have run and had no core: https://docs.kernel.org/scheduler/sched-stats.html."""
    return int(os.pread(statistics, 100, 0).split()[1]) / 1e9 if statistics is not None else 0.0


def _format(frame: FrameType) -> str:
    """Return a stack without its lines' text, which is read from the files: that would take longer than most stalls."""
    lines = [f'  File "{at.f_code.co_filename}", line {line}, in {at.f_code.co_name}' for at, line in walk_stack(frame)]
    return "\n".join([*reversed(lines), ""])


class Watchdog:
    """Reports the stalls of the running loop: a timer of the loop's tells how late its turns are."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        try:
            self._statistics = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        except OSError:  # not on Linux
            self._statistics = None
        self._last = Clocks(self._statistics)
        #: The stack of the loop's thread, and the clocks of the turn that it came after.
        self._sample: tuple[Clocks, FrameType | None] | None = None
        threading.Thread(target=self._take_samples, daemon=True).start()
        self._tick()

    def _tick(self) -> None:
        last, self._last = self._last, Clocks(self._statistics)
        late = self._last.since(last) - INTERVAL
        if late > MAX_CPU:
            frame = self._sample[1] if self._sample and self._sample[0] is last else None
            stack = _format(frame) if frame else "(in one piece of C: no stack was to be had)\n"
            print(f"{STALL} {late * 1000:.0f} ms of CPU time\n{stack}{END}", file=sys.stderr, flush=True)
        self._loop.call_later(INTERVAL, self._tick)

    def _take_samples(self) -> None:
        while not self._loop.is_closed():
            time.sleep(INTERVAL)
            last = self._last
            is_sampled = self._sample is not None and self._sample[0] is last
            if not is_sampled and time.process_time() - last.cpu > MAX_CPU / 2:
                self._sample = last, sys._current_frames().get(self._thread)


@cache
def watched_application() -> Any:
    return import_string(os.environ["WATCHED_APPLICATION"])


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Call the project's application, and watch the loop from the end of its start."""

    async def send_watched(message: Any) -> None:
        await send(message)
        if message["type"] == "lifespan.startup.complete":
            Watchdog()

    await watched_application()(scope, receive, send_watched if scope["type"] == "lifespan" else send)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "evoapi.settings")
    from django.conf import settings
    from django.core.management import execute_from_command_line

    os.environ["WATCHED_APPLICATION"] = settings.ASGI_APPLICATION
    settings.ASGI_APPLICATION = "tests.watched.application"
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
