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
from tests.environment import IS_CI, ON_POSTGRES, POSTGRES_URL, RABBITMQ_URI
from tests.server import ROOT, Server, migrated_database, server_environment

# the same examples in every run: a test fails because of a change, not by chance
hypothesis.settings.register_profile("tests", derandomize=True, deadline=None)
hypothesis.settings.load_profile("tests")


def missing(reason: str) -> None:
    """Skip what this machine cannot run; on CI it must run."""
    if IS_CI:
        pytest.fail(f"{reason}, and CI must not skip", pytrace=False)
    pytest.skip(reason)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What only PostgreSQL does is tested on PostgreSQL alone, what is the same on all databases on SQLite alone.

    So is what people do in a browser: the pages themselves are asked for on both.
    """
    marker = "any_database" if ON_POSTGRES else "postgres"
    left_out = [
        item
        for item in items
        if item.get_closest_marker(marker) or (ON_POSTGRES and "page" in getattr(item, "fixturenames", ()))
    ]
    config.hook.pytest_deselected(items=left_out)
    left = set(left_out)
    items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session", autouse=ON_POSTGRES)
def postgres() -> None:
    """Asked for by tests that need PostgreSQL; with TEST_DATABASE=postgres, by all."""
    try:
        psycopg.connect(POSTGRES_URL, connect_timeout=3).close()
    except psycopg.OperationalError:
        missing("PostgreSQL does not answer at DATABASE_URL")


@pytest.fixture(scope="session", autouse=ON_POSTGRES)
def emptied_quickly() -> Iterator[None]:
    """After a test PostgreSQL is emptied by DELETE: to make new files of all tables, as TRUNCATE does, takes longer."""

    def delete(operations: Any, style: Any, tables: list[str], **options: Any) -> list[str]:
        # foreign keys are checked at the commit, when all rows are gone
        return [f"DELETE FROM {operations.quote_name(table)}" for table in tables]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.db.backends.postgresql.operations.DatabaseOperations.sql_flush", delete)
        yield


@pytest.fixture(scope="session")
def rabbitmq() -> None:
    """Asked for by tests that need a broker."""
    uri = urlsplit(RABBITMQ_URI)
    try:
        socket.create_connection((uri.hostname, uri.port or 5672), 3).close()
    except OSError:
        missing("RabbitMQ does not answer at RABBITMQ_URI")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """A test database of its own for each run: two at once on one PostgreSQL do not disturb each other."""
    if ON_POSTGRES:
        request.getfixturevalue("postgres")
        connections["default"].settings_dict["TEST"]["NAME"] = f"test_evoapi_{os.getpid()}"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database that others are copied from: to migrate takes seconds."""
    with migrated_database(tmp_path_factory.mktemp("migrated")) as found:
        yield found


@pytest.fixture(scope="session")
def environment(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A database for the servers of this session; tests keep apart by making instances of their own."""
    with server_environment(migrated, tmp_path_factory.mktemp("data")) as found:
        yield found


@pytest.fixture(scope="session")
def server(environment: dict[str, str]) -> Iterator[Server]:
    """A running server that all tests share."""
    shared = Server(environment)
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture
def start_server(environment: dict[str, str]) -> Iterator[Callable[..., Server]]:
    """Starts another server on the same database, with settings of its own: start_server(WEBSOCKET_ENABLED="false")."""
    started: list[Server] = []

    def start(**settings: str) -> Server:
        one = Server(environment | settings)
        one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process and one.process.poll() is None:
            one.stop()


@pytest.fixture
def fresh_server(migrated: str, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server on an empty database of its own, for tests that stop it or look at all it has."""
    databases: list[Any] = []
    started: list[Server] = []

    def start(**settings: str) -> Server:
        data_dir = tmp_path / f"data-{len(databases)}"
        data_dir.mkdir()
        database = server_environment(migrated, data_dir)
        environment = database.__enter__()
        databases.append(database)
        one = Server(environment | settings)
        one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process and one.process.poll() is None:
            one.stop()
    for database in databases:
        database.__exit__(None, None, None)


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A Node process with the stock client; sockets that a test leaves open are closed with it."""
    if shutil.which("node") is None:
        missing("Node is not installed")
    if not (ROOT / "node_modules" / "socket.io-client").is_dir():
        missing("socket.io-client is not installed: run `make setup-dev`")
    process = Node()
    yield process
    process.close()
