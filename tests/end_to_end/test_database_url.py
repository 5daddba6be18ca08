"""DATABASE_URL: what cannot be a database of this server stops the start with a sentence, without its password."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from evoapi.database_url import parse, unquoted
from tests.environment import SETTINGS
from tests.server import ROOT

OPTIONS = "schema=evolution_api&connection_limit=5&pool_timeout=0&pgbouncer=true"


def check(tmp_path, url, *command, **environment):
    """Run a management command with this DATABASE_URL; returns its exit code and what it logs."""
    own = SETTINGS | {"PATH": "/usr/bin:/bin", "DATA_DIR": str(tmp_path), "DATABASE_URL": url} | environment
    command = [sys.executable, "manage.py", *(command or ("migrate", "--plan"))]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://root:s3cret@127.0.0.1/x", "there is no support for mysql:"),
        ("postgresql+psycopg2://root:s3cret@127.0.0.1/x", "it begins with postgresql+psycopg2:"),
        ("file:./s3cret.db", "there is no support for file:"),
        ("s3cret.db", "DATABASE_URL must be postgres://"),
        ("sqlite://", "a database in memory"),
        ("sqlite://s3cret.db", "three slashes: sqlite:///db.sqlite3"),
        ("postgres://root:s3cret/x@127.0.0.1/x", "written %2F"),
        ("postgres://root:s3cret@127.0.0.1", "no name of a database"),
        ("postgres://root:s3cret@127.0.0.1/x?colour=s3cret", "has no option colour"),
    ],
)
def test_a_url_that_cannot_be_used_stops_the_start_with_a_sentence(tmp_path, url, said):
    code, error = check(tmp_path, url)
    assert code != 0
    assert "DATABASE_URL" in error.splitlines()[-1]
    assert said in error.splitlines()[-1]
    assert "s3cret" not in error


@pytest.mark.any_database
@pytest.mark.parametrize("command", ["credentials", "bootstrap"])
def test_a_database_without_tables_is_told_in_a_sentence(tmp_path, command):
    code, error = check(tmp_path, f"sqlite:///{tmp_path}/db.sqlite3", command)
    assert code != 0
    [line] = error.splitlines()
    assert "no such table" in line
    assert "`manage.py migrate`" in line


@pytest.mark.slow
@pytest.mark.any_database
@pytest.mark.parametrize("quoted", ['"{}"', "'{}'", " {}\n", '" {} "'])
def test_quotes_around_a_url_are_not_a_part_of_it(tmp_path, quoted):
    path = tmp_path / "in quotes.sqlite3"
    code, error = check(tmp_path, quoted.format(f"sqlite:///{path}"), "migrate", "--verbosity", "0")
    assert (code, error) == (0, "")
    assert path.exists()


@pytest.mark.any_database
def test_options_of_sqlite_are_named(tmp_path):
    code, error = check(tmp_path, f"sqlite:///{tmp_path}/db.sqlite3?mode=rwc&connection_limit=1")
    assert code == 0
    assert error.splitlines()[-1].endswith("DATABASE_URL has options without effect: connection_limit, mode")


@pytest.mark.postgres
def test_a_server_starts_with_the_url_of_evolution_apis_prisma(environment, start_server):
    server = start_server(DATABASE_URL=f'"{environment["DATABASE_URL"]}?{OPTIONS}&application_name=evo"')
    instance = server.create()
    assert server.receive(instance).status == 200
    named = [line for line in server.log.read_text().splitlines() if "DATABASE_URL" in line]
    assert len(named) == 1
    assert named[0].endswith("without effect: connection_limit, pgbouncer, pool_timeout, schema")


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p@h:5433/n", {"USER": "u", "PASSWORD": "p", "HOST": "h", "PORT": 5433, "NAME": "n"}),
        ("postgresql://u:p%40%2Fx@h/n", {"PASSWORD": "p@/x", "HOST": "h", "NAME": "n"}),
        ("POSTGRESQL://u@h/n", {"HOST": "h", "NAME": "n"}),
        ("psql://u:p#x@h/n?sslmode=require", {"PASSWORD": "p#x", "OPTIONS": {"sslmode": "require"}}),
        (f"postgresql://u@h/n?{OPTIONS}", {"NAME": "n"}),
        ("sqlite:////var/db.sqlite3", {"NAME": "/var/db.sqlite3"}),
        ("sqlite:///db%20a.sqlite3", {"NAME": "db a.sqlite3"}),
    ],
)
def test_a_url_is_read(url, expected):
    config, _ = parse(url)
    assert config.items() >= expected.items()
    assert set(config.get("OPTIONS", {})) == set(expected.get("OPTIONS", {}))


@pytest.mark.any_database
@pytest.mark.parametrize(
    "url", ["", "postgres:", "postgres:/h/n", "sqlite:db", "sqlite:///:memory:", "://", "postgres://"]
)
def test_what_is_no_url_is_refused_in_words(url):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL"):
        parse(url)


@pytest.mark.any_database
def test_only_quotes_on_both_sides_are_removed():
    assert [unquoted(value) for value in ('"a"', "'a'", "\"a'", '"', "", '""', "a'b'")] == [
        *("a", "a", "\"a'", '"', "", "", "a'b'"),
    ]
