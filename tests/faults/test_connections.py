"""Connections of strangers: bounded in number, and in the bytes that they keep while no request is complete."""

from __future__ import annotations

import http.client
import select
import socket
from contextlib import ExitStack, suppress

import pytest

from tests.clients.raw import Raw
from tests.faults.floods import Bystander
from tests.faults.test_pending_sessions import POLLING, open_sessions
from tests.in_process import until

pytestmark = pytest.mark.any_database


@pytest.fixture
def connect():
    """Open a connection: connect(server) → socket."""
    with ExitStack() as opened:
        yield lambda server: opened.enter_context(socket.create_connection(("127.0.0.1", server.port), 15))


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed a connection on which it has sent nothing."""
    poll = select.poll()  # select() takes no number of a file over 1,023
    poll.register(connection, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.bound("LIMIT_IDLE_CONNECTIONS")
def test_the_oldest_idle_connections_give_way_to_new_ones(start_server, connect):
    server = start_server(LIMIT_IDLE_CONNECTIONS="20")
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
    idle = []
    for _ in range(40):
        idle.append(connect(server))
        idle[-1].sendall(b"GET / HTTP/1.1\r\nX-Begun: ")
        kept.request("GET", "/")  # one that is used is not the oldest
        assert kept.getresponse().read()
    kept.close()
    assert [is_closed(each) for each in idle] == [True] * 21 + [False] * 19
    (line,) = [line for line in server.log.read_text().splitlines() if "Too many connections" in line]
    assert "1 closed since the last such line; the last one because they wait for a request" in line


@pytest.mark.bound("LIMIT_CONNECTIONS")
def test_websockets_stay_where_there_is_no_room_for_another_connection(start_server, connect):
    server = start_server(LIMIT_CONNECTIONS="10")
    instance = server.create()
    joined = []
    for _ in range(10):
        joined.append(Raw(server.url, additional_headers={"apikey": instance.token}))
        assert joined[-1].join(f"/{instance.name}")[0] == "0"
    until(lambda: is_closed(connect(server)))
    joined.pop().close()
    until(lambda: not is_refused(server))
    server.receive(instance, "Hi")
    for client in joined:
        assert client.event()[0] == "messages.upsert"
        client.close()


def is_refused(server) -> bool:
    try:
        return server.get("/").status != 200
    except OSError:
        return True


@pytest.mark.bound("LIMIT_UNPARSED_BYTES")
def test_heads_that_are_not_complete_are_bounded_all_together(fresh_server, connect):
    server = fresh_server()
    with Bystander(server) as bystander:
        begun = [connect(server) for _ in range(1200)]
        for each in begun:
            each.sendall(b"GET / HTTP/1.1\r\nX-Begun: " + b"x" * 60_000)
        until(lambda: is_closed(begun[0]) and is_closed(begun[500]))
        assert not is_closed(begun[-1])
    assert bystander.growth < 50_000_000
    assert bystander.longest_wait < 1


def test_bytes_behind_requests_that_wait_are_bounded_all_together(fresh_server, connect):
    server = fresh_server(LIMIT_UNPARSED_BYTES=str(8 * 1024 * 1024))
    sids = open_sessions(server, 150)
    with Bystander(server) as bystander:
        waiting = [connect(server) for _ in sids]
        for each, sid in zip(waiting, sids, strict=True):
            each.sendall(f"GET {POLLING}&sid={sid} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            each.settimeout(0.2)
            with suppress(OSError):  # the server reads no more, or has closed the connection
                each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8000)
        until(lambda: is_closed(waiting[0]))
    assert bystander.growth < 40_000_000
    assert bystander.longest_wait < 1


def test_the_start_warns_of_a_low_limit_of_open_files(fresh_server):
    server = fresh_server()
    code = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
sys.argv[:] = ["manage.py", "serve", "nowhere:1"]
runpy.run_path("manage.py", run_name="__main__")
"""
    with pytest.raises(AssertionError, match="no more than 344 clients can be connected"):
        server.python("-c", code)
