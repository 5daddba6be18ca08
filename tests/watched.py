"""Runs `manage.py` with a watchdog: python -m tests.watched serve 8080.

A thread asks the event loop for a turn over and over. Where the process spends MAX_CPU seconds of CPU time before that
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
import traceback
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from django.utils.module_loading import import_string

#: Seconds of the process's CPU time that a turn of the loop may be late.
MAX_CPU = 0.05
#: What the line of a stall in the log begins with.
STALL = "WATCHDOG: the event loop had no turn for"
#: The line after its stack.
END = "WATCHDOG: end of the stack"


class Clocks:
    """The clocks of a thread of this process, in seconds."""

    def __init__(self, thread: int) -> None:
        """`thread` is the thread's number in the operating system (threading.get_native_id)."""
        self.cpu = time.process_time()
        self.running = time.monotonic() - _without_a_core(thread)

    def since(self, earlier: Clocks) -> float:
        """Return the CPU time of the process since then, as far as the thread had a core or waited for the GIL."""
        return min(self.cpu - earlier.cpu, self.running - earlier.running)


def _without_a_core(thread: int) -> float:
    """Return the seconds that a thread could have run and had no core: https://docs.kernel.org/scheduler/sched-stats.html."""
    try:
        return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[1]) / 1e9
    except OSError:  # not on Linux
        return 0.0


def watch(loop: asyncio.AbstractEventLoop, thread: int, native_thread: int) -> None:
    """Report the stalls of a loop, which runs in this thread, until it is closed."""
    while True:
        has_turn = threading.Event()
        turns: list[Clocks] = []
        began = Clocks(native_thread)

        def turn(has_turn: threading.Event = has_turn, turns: list[Clocks] = turns) -> None:
            # the time is taken here: on a busy machine the thread may come long after the turn
            turns.append(Clocks(native_thread))
            has_turn.set()

        try:
            loop.call_soon_threadsafe(turn)
        except RuntimeError:  # it is closed
            return
        stack: FrameType | None = None
        while not has_turn.wait(0.005):
            if stack is None and time.process_time() - began.cpu > MAX_CPU / 2:
                stack = sys._current_frames().get(thread)
        spent = turns[0].since(began)
        if spent > MAX_CPU:
            lines = "".join(traceback.format_stack(stack)) if stack else "(in one piece of C: no stack was to be had)\n"
            print(f"{STALL} {spent * 1000:.0f} ms of CPU time\n{lines}{END}", file=sys.stderr, flush=True)
        time.sleep(0.002)


@cache
def watched_application() -> Any:
    return import_string(os.environ["WATCHED_APPLICATION"])


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Call the project's application, and watch the loop from the end of its start."""

    async def send_watched(message: Any) -> None:
        await send(message)
        if message["type"] == "lifespan.startup.complete":
            arguments = (asyncio.get_running_loop(), threading.get_ident(), threading.get_native_id())
            threading.Thread(target=watch, args=arguments, daemon=True).start()

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
