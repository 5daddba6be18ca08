"""Runs `manage.py` with a watchdog: python -m tests.watched serve 8080. It notes which events are published, too.

Nothing is to be worked on in one piece for long: neither in a turn of the event loop, which serves nobody else
meanwhile, nor by a thread in C that keeps the GIL, for which the loop has to wait. So two things are measured over and
over:

- the CPU time that the loop's thread takes from one turn to the next that a timer has asked for;
- how long a thread waits that wants the GIL, and the CPU time that the thread takes which keeps it.

Where one is over MAX_CPU or MAX_KEPT, the log gets a line that begins with STALL, and the stack of the thread that
worked. It is the CPU time of that thread, and not the clock: a busy machine, which runs other processes meanwhile, is
no fault of the server's. Nor are threads that take the GIL in turns, or compute without it, as for a password's hash.
Only Linux tells the times of other threads; elsewhere the turns alone are measured.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from traceback import walk_stack
from types import FrameType
from typing import Any, NamedTuple

from django.utils.module_loading import import_string

from tests.emitted import note_published

#: Seconds of CPU time that a turn of the loop may take.
MAX_CPU = 0.05
#: Seconds of CPU time for which a thread may keep the GIL. One that lets go of it every few milliseconds may take it
#: back each time, on a busy machine, before another thread has a core.
MAX_KEPT = 0.1
#: Seconds of CPU time between two waits of a thread, on average, up to which it lets go of the GIL: threads that take
#: turns wait for it after 5 ms each, or after a piece of work in C.
MAX_SLICE = 0.025
#: Seconds between two turns that the timer asks for, and between two requests for the GIL.
INTERVAL, GIL_INTERVAL = 0.01, 0.02
#: Seconds for which the GIL is kept, at most, to see which threads compute without it.
KEPT = 0.02
#: What the line of a stall in the log begins with.
STALL = "WATCHDOG: stall of"
#: The line after its stack.
END = "WATCHDOG: end of the stack"


def _report(seconds: float, worker: str, frame: FrameType | None) -> None:
    stack = _format(frame) if frame else "(in one piece of C: no stack was to be had)\n"
    print(f"{STALL} {seconds * 1000:.0f} ms of CPU time in {worker}\n{stack}{END}", file=sys.stderr, flush=True)


def _format(frame: FrameType) -> str:
    """Return a stack without its lines' text, which is read from the files: that would take longer than most stalls."""
    lines = [f'  File "{at.f_code.co_filename}", line {line}, in {at.f_code.co_name}' for at, line in walk_stack(frame)]
    return "\n".join([*reversed(lines), ""])


class Sample(NamedTuple):
    """What a thread has done since its start."""

    #: Seconds of CPU time.
    cpu: float
    #: How many times it has waited: for the GIL, as one that has let go of it does, or for anything else.
    waits: int


class Watchdog:
    """Reports the stalls of the running loop, and of the threads beside it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.current_thread()
        #: CPU time of the loop's thread at the latest turn that the timer has had.
        self._last = time.thread_time()
        #: The stack of the loop's thread in a long turn, and that time before the turn.
        self._sample: tuple[float, FrameType | None] = -1.0, None
        self._samples: dict[threading.Thread, Sample] = {}
        threading.Thread(target=self._ask_for_gil, name="watchdog", daemon=True).start()
        self._tick()

    def _tick(self) -> None:
        """Report the turns of the loop since the last call, if they took too long."""
        last, self._last = self._last, time.thread_time()
        took = self._last - last - INTERVAL
        if took > MAX_CPU:
            _report(took, "one turn of the event loop", self._sample[1] if self._sample[0] == last else None)
        self._loop.call_later(INTERVAL, self._tick)

    def _ask_for_gil(self) -> None:
        """Ask for the GIL over and over, and report the thread that keeps it for too long."""
        while not self._loop.is_closed():
            before = self._samples = _samples(self._samples)
            asked_at, without_a_core = time.monotonic(), _without_a_core()
            time.sleep(GIL_INTERVAL)
            waited, last = time.monotonic() - asked_at - GIL_INTERVAL, self._last
            if self._sample[0] != last and _cpu_of(before, self._thread) > last + MAX_CPU / 2:
                self._sample = last, sys._current_frames().get(self._thread.ident or 0)
            if waited > MAX_KEPT:
                # while this thread had no core, it could not ask for the GIL either
                self._report_holder(before, GIL_INTERVAL + _without_a_core() - without_a_core)

    def _report_holder(self, before: dict[threading.Thread, Sample], allowed: float) -> None:
        """Report the thread that has kept the GIL since then, now that this one has it."""
        frames = sys._current_frames()
        took, suspects = {}, set()
        for thread, now in _samples(before).items():
            then = before.get(thread, Sample(0, 0))
            took[thread] = now.cpu - then.cpu - allowed
            if took[thread] > MAX_KEPT and (now.cpu - then.cpu) / (now.waits - then.waits + 1) > MAX_SLICE:
                suspects.add(thread)
        for thread in _waiting_for_gil(suspects) - {self._thread}:  # the loop's turns are measured by themselves
            _report(took[thread], f"thread {thread.name}, which kept the GIL", frames.get(thread.ident or 0))


def _samples(last: dict[threading.Thread, Sample]) -> dict[threading.Thread, Sample]:
    """Return what each thread has done; `last`: what it had some time ago."""
    samples = {}
    for thread in threading.enumerate():
        if thread.native_id is not None:
            with suppress(OSError):  # it has ended
                cpu = time.clock_gettime(~thread.native_id << 3 | 6)  # Linux's clock of a thread
                same = thread in last and last[thread].cpu == cpu
                samples[thread] = last[thread] if same else Sample(cpu, _waits(thread.native_id))
    return samples


def _cpu_of(samples: dict[threading.Thread, Sample], thread: threading.Thread) -> float:
    return samples[thread].cpu if thread in samples else 0


def _waits(thread_id: int) -> int:
    """Return how often a thread has given up its core to wait for something."""
    _, _, text = _read(thread_id, "status").rpartition(b"\nvoluntary_ctxt_switches:")
    return int(text.split()[0]) if text else 0


def _waiting_for_gil(threads: set[threading.Thread]) -> set[threading.Thread]:
    """Return the threads that do not go on while this one keeps the GIL; the others compute without it."""
    waiting: set[threading.Thread] = set()
    until = time.monotonic() + KEPT
    while threads - waiting and time.monotonic() < until:
        waiting |= {thread for thread in threads if not _is_running(thread)}
    return waiting


#: The C library, called without releasing the GIL.
_libc = ctypes.PyDLL(None)


def _read(thread_id: int, name: str) -> bytes:
    """Return a file of a thread's in /proc; empty where there is none."""
    file = _libc.open(f"/proc/self/task/{thread_id}/{name}".encode(), os.O_RDONLY)
    text = ctypes.create_string_buffer(4096)
    _libc.read(file, text, len(text) - 1)
    _libc.close(file)
    return text.value


def _is_running(thread: threading.Thread) -> bool:
    return _read(thread.native_id or 0, "stat").rpartition(b") ")[2].startswith(b"R")


def _without_a_core() -> float:
    """Return the seconds that this thread could have run and had no core: https://docs.kernel.org/scheduler/sched-stats.html."""
    times = _read(threading.get_native_id(), "schedstat").split()
    return int(times[1]) / 1e9 if times else 0.0


@cache
def watched_application() -> Any:
    return import_string(os.environ["WATCHED_APPLICATION"])


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Call the project's application, and watch the loop from the end of its start."""

    async def send_watched(message: Any) -> None:
        await send(message)
        if message["type"] == "lifespan.startup.complete":
            note_published(os.environ["DATA_DIR"])
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
