from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import psycopg
import pytest
from django.db import connections

from tests.clients.node import Node
from tests.emitted import data_faults
from tests.environment import IS_CI, ON_POSTGRES, POSTGRES_URL, RABBITMQ_URI
from tests.forking import fork_server
from tests.server import ROOT, Server, migrated_database, milliseconds, server_environment

# the same examples in every run: a test fails by a change of the code, not by chance
hypothesis.settings.register_profile("tests", derandomize=True, deadline=None)
hypothesis.settings.load_profile("tests")


def missing(reason: str) -> None:
    """Skip a test that this machine cannot run; on CI, fail it."""
    if IS_CI:
        pytest.fail(f"{reason}, and CI must not skip", pytrace=False)
    pytest.skip(reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that are marked slow, and no others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests by their markers: `postgres` on SQLite, `any_database` on PostgreSQL, and either all slow ones or
    all others.

    Tests in a browser run on SQLite alone: other tests request the pages on both databases.
    """
    marker = "any_database" if ON_POSTGRES else "postgres"
    is_slow_run = config.getoption("--slow")
    deselected = [
        item
        for item in items
        if item.get_closest_marker(marker)
        or (item.get_closest_marker("slow") is not None) != is_slow_run
        or (ON_POSTGRES and "browser" in getattr(item, "fixturenames", ()))
    ]
    config.hook.pytest_deselected(items=deselected)
    excluded = set(deselected)
    items[:] = [item for item in items if item not in excluded]
    _put_last_in_modules(items, "browser")


def _put_last_in_modules(items: list[pytest.Item], fixture: str) -> None:
    """Move the tests that need a fixture behind the others of their module."""
    place = {module: number for number, module in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (place[item.path], fixture in getattr(item, "fixturenames", ())))


@pytest.fixture(scope="session", autouse=ON_POSTGRES)
def postgres() -> None:
    """Requested by tests that need PostgreSQL; with TEST_DATABASE=postgres, by all tests."""
    try:
        psycopg.connect(POSTGRES_URL, connect_timeout=3).close()
    except psycopg.OperationalError:
        missing("PostgreSQL does not answer at DATABASE_URL")


@pytest.fixture(scope="session", autouse=ON_POSTGRES)
def flushed_by_delete() -> Iterator[None]:
    """Flush PostgreSQL after a test by DELETE: TRUNCATE, which makes new files for all tables, takes longer."""

    def delete(operations: Any, style: Any, tables: list[str], **options: Any) -> list[str]:
        # foreign keys are checked at the commit, when all rows are deleted
        return [f"DELETE FROM {operations.quote_name(table)}" for table in tables]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.db.backends.postgresql.operations.DatabaseOperations.sql_flush", delete)
        yield


@pytest.fixture(scope="session")
def rabbitmq() -> None:
    """Requested by tests that need RabbitMQ."""
    uri = urlsplit(RABBITMQ_URI)
    try:
        socket.create_connection((uri.hostname, uri.port or 5672), 3).close()
    except OSError:
        missing("RabbitMQ does not answer at RABBITMQ_URI")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """Name the test database after the process: two runs on one PostgreSQL at the same time do not collide."""
    if ON_POSTGRES:
        request.getfixturevalue("postgres")
        connections["default"].settings_dict["TEST"]["NAME"] = f"test_evoapi_{os.getpid()}"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database to copy from: to migrate takes seconds."""
    with migrated_database(tmp_path_factory.mktemp("migrated")) as database:
        yield database


@pytest.fixture(scope="session")
def environment(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a server with the database of this session, in which each test creates its own instances."""
    with server_environment(migrated, tmp_path_factory.mktemp("data")) as variables:
        yield variables


@pytest.fixture(autouse=True)
def no_stalls(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test during which a turn of a server's loop takes over 50 ms, or a thread keeps the GIL for over 100.

    With the marker `stall(milliseconds)` it may be so many.
    """
    yield
    stalls = [stall for server in Server.running for stall in server.new_stalls()] + Server.unchecked
    Server.unchecked.clear()
    marker = request.node.get_closest_marker("stall")
    allowed = marker.args[0] if marker else 0
    assert not [stall for stall in stalls if milliseconds(stall) > allowed], "\n".join(stalls)


@pytest.fixture(scope="session", autouse=True)
def announced_faults() -> Iterator[list[str]]:
    """The list of what is wrong with the events that this process has announced, and no test has been failed for."""
    from instances.events import event_occurred
    from instances.models import Instance

    found: list[str] = []

    def check(sender: Any, event_type: Any, data: Any, **kwargs: Any) -> None:
        if sender is Instance:  # announced by our own code
            found.extend(data_faults(event_type, data))

    event_occurred.connect(check, weak=False)
    yield found
    event_occurred.disconnect(check)


@pytest.fixture(autouse=True)
def events_fit_their_schemas(request: pytest.FixtureRequest, announced_faults: list[str]) -> Iterator[None]:
    """Fail a test that emits an event which is not as the JSON Schema of its type says, be it here or in a server."""
    yield
    faults = announced_faults + [fault for server in Server.running for fault in server.new_event_faults()]
    faults += Server.unchecked_events
    announced_faults.clear()
    Server.unchecked_events.clear()
    if request.node.get_closest_marker("made_up_events") is None:
        assert not faults, "\n".join(faults[:20])


@pytest.fixture(scope="session", autouse=True)
def closed_fork_server() -> Iterator[None]:
    """End the process that server processes are forked from."""
    yield
    fork_server.close()


@pytest.fixture(scope="session")
def server(environment: dict[str, str]) -> Iterator[Server]:
    """A running server that all tests share."""
    shared = Server(environment)
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture
def start_server(environment: dict[str, str]) -> Iterator[Callable[..., Server]]:
    """Start another server on the same database with its own settings: start_server(WEBSOCKET_ENABLED="false")."""
    started: list[Server] = []

    def start(**settings: str) -> Server:
        server = Server(environment | settings)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process and server.process.poll() is None:
            server.stop()


@pytest.fixture
def fresh_server(migrated: str, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server on an empty database of its own, for tests that stop it or check all of its data."""
    databases: list[Any] = []
    started: list[Server] = []

    def start(**settings: str) -> Server:
        data_dir = tmp_path / f"data-{len(databases)}"
        data_dir.mkdir()
        database = server_environment(migrated, data_dir)
        environment = database.__enter__()
        databases.append(database)
        server = Server(environment | settings)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process and server.process.poll() is None:
            server.stop()
    for database in databases:
        database.__exit__(None, None, None)


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A Node process with the stock client; it closes the sockets that tests leave open."""
    if shutil.which("node") is None:
        missing("Node is not installed")
    if not (ROOT / "node_modules" / "socket.io-client").is_dir():
        missing("socket.io-client is not installed: run `make setup-dev`")
    process = Node()
    yield process
    process.close()
