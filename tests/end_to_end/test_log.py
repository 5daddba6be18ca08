"""The log: one line for each message, whatever strangers send."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest

from evoapi.log_filter import LogFilter
from instances.bounds import LOG_CHARACTERS
from tests.server import ROOT, Server, server_environment

pytestmark = pytest.mark.any_database

RENAME = "from django.db import connection; connection.cursor().execute('ALTER TABLE {} RENAME TO {}')"
FORGED = "2026-11-28 12:00:00,000 ERROR evoapi: forged"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/instance/connectionState/{}"),
        ("POST", "/event/publish/{}"),
        ("POST", "/websocket/set/{}"),
        ("GET", "/event/stream/{}"),
    ],
)
def test_a_path_makes_no_line_of_its_own(without_instances, method, path):
    server, log = without_instances
    before = len(log.read_text())
    name = "x%1B[2J%E2%80%AE%0D%0A" + FORGED.replace(" ", "%20")
    server.request(method, path.format(name), {} if method == "POST" else None)

    written = log.read_text()[before:]
    assert " ERROR " in written
    assert not [line for line in written.split("\n") if line.startswith(FORGED)]
    assert not set("\r\x1b\u202e") & set(written)


def test_the_log_is_english_whatever_a_client_prefers(without_instances):
    server, log = without_instances
    lines = []
    for headers in ({}, {"Accept-Language": "pt-BR,de;q=0.9"}):
        before = len(log.read_text())
        server.get("/instance/connectionState/x", headers=headers)
        [line, *_] = log.read_text()[before:].splitlines()
        lines.append(line.partition(" ERROR ")[2])
    assert lines[0] == lines[1] != ""


@pytest.mark.bound("LIMIT_LOG_CHARACTERS")
@pytest.mark.parametrize("characters", [LOG_CHARACTERS, LOG_CHARACTERS * 4])
def test_a_long_path_stops_nobody_and_makes_no_long_line(without_instances, characters):
    server, log = without_instances
    before, stalls = len(log.read_text()), server.stalls()
    server.get(f"/instance/connectionState/{'%1B' * characters}")

    lines = log.read_text()[before:].split("\n")
    assert max(map(len, lines)) < LOG_CHARACTERS + 200
    assert server.stalls() == stalls


@pytest.fixture(scope="module")
def without_instances(migrated, tmp_path_factory):
    """A server whose database fails at every request, and its log."""
    with server_environment(migrated, tmp_path_factory.mktemp("data")) as environment:
        server = Server(environment)
        server.start()
        server.shell(RENAME.format("instances_instance", "set_aside"))
        yield server, server.log
        server.stop()


def test_all_handlers_filter_also_under_uvicorns_own_command():
    code = (
        "import logging, uvicorn\n"
        "uvicorn.Config('evoapi.asgi:application').load()\n"
        "loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]\n"
        "handlers = {handler for logger in loggers for handler in logger.handlers}\n"
        "print([(handler, handler.filters) for handler in handlers if not isinstance(handler, logging.NullHandler)])\n"
        "logging.getLogger('uvicorn.error').error('one\\nline')"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Handler") == result.stdout.count("LogFilter") == 1, result.stdout
    assert result.stderr.endswith(" ERROR uvicorn.error: one\\nline\n")


@pytest.fixture
def written():
    """Log a message with its arguments and return what a handler has written."""
    logger = logging.getLogger("a test's")
    logger.propagate = False

    def written(message, *arguments, **options):
        stream = io.StringIO()
        handlers = [logging.StreamHandler(stream), logging.StreamHandler(io.StringIO())]
        for handler in handlers:
            handler.addFilter(LogFilter())
            handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
            logger.addHandler(handler)
        logger.error(message, *arguments, **options)
        for handler in handlers:
            logger.removeHandler(handler)
        return stream.getvalue()

    return written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/x?apikey=S3CRET&a=b\n", "/x?apikey=********&a=b"),
        ("/x?a=b&token=S3CRET failed", "/x?a=b&token=******** failed"),
        ("amqp://me:S3CRET@rabbit/vhost", "amqp://me:********@rabbit/vhost"),
        (
            "postgres://:S3CRET@db:5432/x and https://a:S3CRET@b",
            "postgres://:********@db:5432/x and https://a:********@b",
        ),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"),
        ("a\x00\tb\x7f\x85\u2028c", "a\\x00\\tb\\x7f\\x85\\u2028c"),
        ("Olá, ação 🎉", "Olá, ação 🎉"),
    ],
)
def test_a_message_is_one_line_without_keys(written, text, expected):
    assert written("%s", text) == f"a test's: {expected}\n"


def test_a_message_is_cut_off(written):
    assert written("%s", "x" * LOG_CHARACTERS) == f"a test's: {'x' * LOG_CHARACTERS}\n"
    for character in ("x", "\x1b"):
        line = written("%s", character * LOG_CHARACTERS * 2)
        assert len(line) < LOG_CHARACTERS + 50
        assert line.endswith(f"… (of {LOG_CHARACTERS * 2} characters)\n")


def test_arguments_that_do_not_fit_are_left_out():
    record = logging.makeLogRecord({"msg": "%s and %s", "args": ("one",)})
    assert LogFilter().filter(record)
    assert record.getMessage() == "%s and %s"


def test_lines_of_a_traceback_are_indented_and_bounded(written):
    try:
        raise ValueError(f"bad\n{FORGED}\r?token=S3CRET\n" + "\n" * 10_000 + "x" * 100_000)
    except ValueError:
        lines = written("It has failed", exc_info=True).split("\n")

    assert lines[0] == "a test's: It has failed"
    assert lines[1] == "    Traceback (most recent call last):"
    assert f"    {FORGED}\\r?token=********" in lines
    assert all(line.startswith("    ") for line in lines[1:-1])
    assert len(lines) < 250
    assert max(map(len, lines)) < LOG_CHARACTERS + 100
