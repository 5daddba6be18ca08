"""Runs `manage.py` with a watchdog: python -m tests.watched serve 8080.

A thread asks the event loop for a turn over and over. Where the process spends MAX_CPU seconds of CPU time before that
turn comes, the log gets a line that begins with STALL and the stack of the loop's thread. CPU time and not the clock:
a busy machine, which runs other processes meanwhile, is no fault of the server's.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from functools import cache
from types import FrameType
from typing import Any

from django.utils.module_loading import import_string

#: Seconds of the process's CPU time that a turn of the loop may be late.
MAX_CPU = 0.05
#: What the line of a stall in the log begins with.
STALL = "WATCHDOG: the event loop had no turn for"
#: The line after its stack.
END = "WATCHDOG: end of the stack"


def watch(loop: asyncio.AbstractEventLoop, thread: int) -> None:
    """Report the stalls of a loop, which runs in `thread`, until it is closed."""
    while True:
        has_turn = threading.Event()
        turns: list[float] = []
        began = time.process_time()

        def turn(has_turn: threading.Event = has_turn, turns: list[float] = turns) -> None:
            # the time is taken here: on a busy machine the thread may come long after the turn
            turns.append(time.process_time())
            has_turn.set()

        try:
            loop.call_soon_threadsafe(turn)
        except RuntimeError:  # it is closed
            return
        stack: FrameType | None = None
        while not has_turn.wait(0.005):
            if stack is None and time.process_time() - began > MAX_CPU / 2:
                stack = sys._current_frames().get(thread)
        spent = turns[0] - began
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
            arguments = (asyncio.get_running_loop(), threading.get_ident())
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
