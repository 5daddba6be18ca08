"""Shared threads: whatever one tenant's requests wait for, they have a share, and other tenants are served.

Nothing here measures time: the others are served while those requests still wait.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.clients.staff import Staff, url
from tests.environment import ON_POSTGRES
from tests.in_process import until
from tests.instances.providers.graph_api import Graph
from tests.server import Number, Response, Server

LOCKED = "Another request or program has kept this locked for {} seconds; try again"


@contextmanager
def locked(server: Server, *numbers: Number) -> Iterator[None]:
    """Lock instances as a transaction of another program does: their rows or, on SQLite, the database."""
    if ON_POSTGRES:
        with psycopg.connect(server.environment["DATABASE_URL"]) as connection:
            ids = [number.id for number in numbers]
            connection.execute("SELECT 1 FROM instances_instance WHERE id = ANY(%s::uuid[]) FOR UPDATE", [ids])
            yield
            connection.rollback()
        return
    connection = sqlite3.connect(Path(server.environment["DATA_DIR"]) / "db.sqlite3", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.rollback()
    connection.close()


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Response]]]:
    """Call functions in threads: background(server.post, "/path") → Future."""
    with ThreadPoolExecutor(200) as pool:
        yield pool.submit


def set_websocket(server: Server, number: Number, **options: Any) -> Response:
    return server.post(server.path("/websocket/set", number), {"enabled": True}, **options)


def publish(server: Server, number: Number, data: Any = 1) -> Response:
    return server.post(server.path("/event/publish", number), {"event": "call", "data": data}, key=number.token)


# A request waits for a lock, but not for ever


@pytest.mark.slow
@pytest.mark.bound("LIMIT_LOCK_SECONDS")
def test_requests_that_wait_for_a_lock_in_vain_are_told_so(start_server):
    server = start_server(LIMIT_LOCK_SECONDS="1")
    mine = server.create()
    with locked(server, mine):
        for response in (set_websocket(server, mine), publish(server, mine), publish(server, mine, "x" * 300_000)):
            assert response.status == 503
            assert response.json["response"]["message"] == [LOCKED.format(1)]
    assert set_websocket(server, mine).status == 201
    assert publish(server, mine).status == 201


def test_requests_that_wait_for_a_lock_are_done_once_it_is_free(server, background):
    mine = server.create()
    with locked(server, mine):
        waiting = [background(set_websocket, server, mine)] + [background(publish, server, mine, n) for n in range(20)]
        waiting.append(background(publish, server, mine, "x" * 300_000))
        time.sleep(0.5)
    assert [future.result(20).status for future in waiting] == [201] * 22


@pytest.mark.slow
def test_what_was_sent_is_stored_however_long_it_is_locked(start_server, background, graph):
    server = start_server(LIMIT_LOCK_SECONDS="1", WA_BUSINESS_URL=graph.url)
    mine = server.create(integration="WHATSAPP-BUSINESS")
    release = graph.held()
    text = {"number": "5511988887777", "text": "hello", "id": "1"}
    sent = background(server.post, server.path("/message/sendText", mine), text)
    assert graph.arrived.acquire(timeout=10)
    with locked(server, mine):
        release()
        # another request waits in vain meanwhile, so the sent one has waited longer than that, too
        for _ in range(2):
            assert set_websocket(server, mine).status == 503
        assert not sent.done()
    assert sent.result(20).status == 201
    assert len(graph.requests) == 1


# Threads


@pytest.fixture
def graph() -> Iterator[Graph]:
    graph = Graph()
    yield graph
    graph.stop()


@pytest.mark.bound("LIMIT_REST_THREADS")
@pytest.mark.postgres
def test_a_locked_instance_takes_not_all_threads_of_rest(server, background):
    mine, other = server.create(), server.create()
    with locked(server, mine):
        waiting = [background(set_websocket, server, mine, key=mine.token) for _ in range(40)]
        time.sleep(0.5)
        for _ in range(5):
            assert set_websocket(server, other, key=other.token).status == 201
        assert not any(future.done() for future in waiting)
    assert {future.result(20).status for future in waiting} == {201}


@pytest.mark.postgres
def test_all_instances_of_a_key_take_not_all_threads_of_rest(server, background):
    """The global key's, here: tenants with keys of their own are served."""
    numbers, other = [server.create() for _ in range(10)], server.create()
    with locked(server, *numbers):
        waiting = [background(set_websocket, server, number) for number in numbers * 4]
        time.sleep(0.5)
        for _ in range(5):
            assert set_websocket(server, other, key=other.token).status == 201
        assert not any(future.done() for future in waiting)
    assert {future.result(20).status for future in waiting} == {201}


def test_test_messages_that_hang_leave_the_threads_of_the_admins_pages(start_server, background, graph):
    server = start_server(WA_BUSINESS_URL=graph.url, LIMIT_REST_THREADS="2")
    number = server.create(integration="WHATSAPP-BUSINESS")
    staff = Staff(server, is_superuser=True)
    releases = [graph.held() for _ in range(4)]
    forms = [{"number": "5511988887777", "text": "hello", "id": str(uuid.uuid4())} for _ in releases]
    waiting = [background(staff.post, url("test_message", "instances_instance", number.id), form) for form in forms]
    for _ in releases:
        assert graph.arrived.acquire(timeout=10)
    for _ in range(3):
        assert staff.get(url("change", "instances_instance", number.id)).status == 200
    assert not any(future.done() for future in waiting)
    for release in releases:
        release()
    assert {future.result(20).status for future in waiting} == {302}


@pytest.mark.bound("LIMIT_SENDING_THREADS")
def test_an_instance_whose_sends_hang_takes_not_all_threads_that_send(start_server, background, graph):
    server = start_server(WA_BUSINESS_URL=graph.url)
    mine, other = server.create(integration="WHATSAPP-BUSINESS"), server.create()
    text = {"number": "5511988887777", "text": "hello"}
    releases = [graph.held() for _ in range(80)]
    waiting = [background(server.post, server.path("/message/sendText", mine), text, key=mine.token) for _ in range(80)]
    for _ in range(32):  # half of the threads
        assert graph.arrived.acquire(timeout=10)
    for _ in range(3):
        assert server.post(server.path("/message/sendText", other), text, key=other.token).status == 201
    assert not any(future.done() for future in waiting)
    for release in releases:
        release()
    assert {future.result(20).status for future in waiting} == {201}


@pytest.mark.bound("LIMIT_QUEUE_SECONDS")
@pytest.mark.any_database
def test_a_request_waits_for_a_thread_no_longer_than_it_may(start_server, background, graph):
    server = start_server(WA_BUSINESS_URL=graph.url, LIMIT_QUEUE_SECONDS="1")
    mine = server.create(integration="WHATSAPP-BUSINESS")
    text = {"number": "5511988887777", "text": "hello"}
    releases = [graph.held() for _ in range(33)]
    waiting = [background(server.post, server.path("/message/sendText", mine), text) for _ in range(33)]
    until(lambda: any(future.done() for future in waiting))
    [refused] = (future.result() for future in waiting if future.done())
    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
    assert refused.headers["Access-Control-Allow-Origin"] is None
    for release in releases:
        release()
    assert sorted(future.result(20).status for future in waiting) == [201] * 32 + [503]


# The ingress


@pytest.mark.postgres
@pytest.mark.parametrize("size", [1, 300_000])
def test_locked_instances_delay_no_other_at_the_ingress(server, background, size):
    numbers, other = [server.create() for _ in range(12)], server.create()
    with locked(server, *numbers):
        waiting = [background(publish, server, number, "x" * size) for number in numbers * 4]
        time.sleep(0.5)
        for _ in range(5):
            assert publish(server, other).status == 201
            assert publish(server, other, "x" * 300_000).status == 201
        # also one that was locked, and is no longer
        with locked(server, other):
            delayed = background(publish, server, other)
            until(lambda: delayed.running())
        assert delayed.result(20).status == 201
        assert not any(future.done() for future in waiting)
    assert {future.result(20).status for future in waiting} == {201}


#: A row that storing a message or an event writes: its table, and the column of its instance.
ROWS = [("realtime_stream", "instance_id"), ("instances_chat", "instance_id"), ("realtime_burst", "instance_id")]


@pytest.mark.postgres
@pytest.mark.parametrize(("table", "column"), ROWS)
def test_a_row_of_an_instance_that_another_program_locks_delays_no_other_instance(
    start_server, background, table, column
):
    """An operator's psql, for one: it takes no lock of the instance itself."""
    coalesced = {f"EVENT_COALESCE_{name}_MS": "1" for name in ("CONNECTION_UPDATE", "QRCODE_UPDATED")}
    server = start_server(LIMIT_LOCK_SECONDS="60", **coalesced)
    mine, other = server.create(), server.create()
    state = {"event": "connection.update", "data": {"state": "open"}}

    def report(number: Number) -> None:
        assert publish(server, number).status == 201
        assert server.post(server.path("/event/publish", number), state, key=number.token).status == 201
        assert server.receive(number).status == 200

    report(mine)
    with psycopg.connect(server.environment["DATABASE_URL"]) as connection:
        rows = connection.execute(f"SELECT 1 FROM {table} WHERE {column} = %s FOR UPDATE", [mine.id]).fetchall()
        assert rows
        waiting = [background(report, mine) for _ in range(20)]
        for _ in range(10):
            report(other)
            assert publish(server, other, "x" * 300_000).status == 201
        assert not any(future.done() for future in waiting)
        connection.rollback()
    for future in waiting:
        future.result(20)


def test_large_bodies_of_one_client_take_turns_with_those_of_others(server, background):
    mine, other = server.create(), server.create()
    waiting = [background(publish, server, mine, "x" * 4_000_000) for _ in range(15)]
    until(lambda: any(future.done() for future in waiting), 20)
    assert publish(server, other, "x" * 300_000).status == 201
    assert not all(future.done() for future in waiting)
    assert {future.result(60).status for future in waiting} == {201}


#: Makes each statement that writes an event last until nobody holds the advisory lock 42; it waits for no lock itself.
SLOW = """
CREATE FUNCTION wait() RETURNS trigger AS $$ BEGIN
    WHILE NOT pg_try_advisory_xact_lock_shared(42) LOOP PERFORM pg_sleep(0.05); END LOOP; RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER wait BEFORE INSERT ON realtime_event FOR EACH STATEMENT EXECUTE FUNCTION wait();
"""


@contextmanager
def writer_blocked(server: Server) -> Iterator[None]:
    """Keep the ingress from writing at all, for any instance."""
    if not ON_POSTGRES:
        with locked(server):
            yield
        return
    with psycopg.connect(server.environment["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(SLOW)
        connection.execute("SELECT pg_advisory_lock(42)")
        yield
        connection.execute("SELECT pg_advisory_unlock(42)")


@pytest.mark.bound("LIMIT_WRITER_LAG")
def test_bodies_are_refused_while_the_writer_lags(fresh_server, background):
    server = fresh_server(LIMIT_WRITER_LAG="1")
    mine = server.create()
    posted: list[Future[Response]] = []
    with writer_blocked(server):
        while not any(future.done() for future in posted):
            assert len(posted) < 100
            posted.append(background(publish, server, mine))
            time.sleep(0.1)
        refused = next(future.result() for future in posted if future.done())
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert "the requests that are to be stored waits" in refused.json["response"]["message"][0]
        assert server.post_meta({"object": "x"}).status == 503, "Meta repeats"
        assert server.get("/instance/fetchInstances").status == 200
    assert {future.result(20).status for future in posted} == {201, 503}
    assert server.post_meta({"object": "x"}).status == 200
    assert server.log.read_text().count("Overloaded: 1 requests were answered 503") == 1
