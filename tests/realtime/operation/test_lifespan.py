"""The start of an application by its first request, under a server without the lifespan protocol."""

from __future__ import annotations

import asyncio
import logging
import signal

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from realtime.operation.lifespan import Lifespan, NotStarted

pytestmark = pytest.mark.any_database


class Application:
    """Counts its starts and stops; `error` is what a start raises."""

    def __init__(self) -> None:
        self.starts = self.stops = 0
        self.error: Exception | None = None
        self.lifespan = Lifespan(self.start, self.stop)

    async def start(self) -> None:
        self.starts += 1
        await asyncio.sleep(0.01)
        if self.error:
            raise self.error

    async def stop(self) -> None:
        self.stops += 1
        await asyncio.sleep(0)


@pytest.fixture
def application():
    return Application()


async def test_requests_that_come_together_start_it_once(application):
    await asyncio.gather(*(application.lifespan.ensure_running() for _ in range(100)))
    await application.lifespan.ensure_running()

    assert (application.starts, application.stops) == (1, 0)


async def test_a_request_that_is_cancelled_ends_the_start_of_no_other(application):
    first, second = (asyncio.ensure_future(application.lifespan.ensure_running()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()

    await second

    assert (application.starts, application.lifespan.is_running) == (1, True)


async def test_a_start_that_fails_refuses_all_that_wait_and_is_logged_once(application, caplog):
    application.error = ImproperlyConfigured("The database is not up to date: run `manage.py migrate`.")

    waiting = (application.lifespan.ensure_running() for _ in range(10))
    refused = await asyncio.gather(*waiting, return_exceptions=True)
    with pytest.raises(NotStarted):
        await application.lifespan.ensure_running()  # at once: a crowd of requests makes no crowd of starts

    assert all(isinstance(each, NotStarted) for each in refused)
    assert (application.starts, application.stops) == (1, 1)
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.CRITICAL, None)
    assert "run `manage.py migrate`" in record.getMessage()


@pytest.mark.parametrize("error", [OperationalError("away"), RuntimeError("unforeseen")])
async def test_a_later_request_tries_again(application, caplog, error):
    application.error = error
    with pytest.raises(NotStarted):
        await application.lifespan.ensure_running()
    application.error = None

    await asyncio.sleep(1.1)
    await application.lifespan.ensure_running()

    assert (application.starts, application.lifespan.is_running) == (2, True)
    (record,) = caplog.records
    assert (record.exc_info is None) == isinstance(error, OperationalError)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_before_the_server_gets_it(application, number):
    got = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.signal(number, lambda *_: loop.call_soon_threadsafe(got.set))
    try:
        await application.lifespan.ensure_running()
        signal.raise_signal(number)
        await asyncio.wait_for(got.wait(), 5)
        assert application.stops == 1
        with pytest.raises(NotStarted):
            await application.lifespan.ensure_running()
    finally:
        signal.signal(number, before)


def test_the_end_of_an_event_loop_stops_it_and_another_one_may_start_it(application):
    for _ in range(2):
        asyncio.run(application.lifespan.ensure_running())

    assert (application.starts, application.stops) == (2, 2)
