"""DATABASE_URL: the database in one variable, checked before anything is connected to."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

import environ
from django.core.exceptions import ImproperlyConfigured

POSTGRES_SCHEMES = frozenset({"postgres", "postgresql", "pgsql", "psql"})
SQLITE_SCHEME = "sqlite"

#: Options of other programs' URLs, which have no meaning here: Prisma's, with which Evolution API's URLs end, and those
#: of Django's settings that this server sets itself.
IGNORED = frozenset(
    {
        *("schema", "connection_limit", "pool_timeout", "pgbouncer", "socket_timeout", "statement_cache_size"),
        *("sslaccept", "sslidentity", "single_use_connections", "max_connection_lifetime"),
        *("max_idle_connection_lifetime", "conn_max_age", "conn_health_checks", "autocommit", "atomic_requests"),
        *("disable_server_side_cursors", "pool"),
    }
)

_FORM = (
    "DATABASE_URL must be postgres://user:password@host:5432/database or sqlite:////var/lib/evoapi/db.sqlite3 "
    "(an absolute path has four slashes); without it, SQLite is in DATA_DIR"
)


def unquoted(value: str) -> str:
    """Return a value without the quotes around it: `docker run --env-file` passes them on, where a shell would not."""
    value = value.strip()
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1].strip() if is_quoted else value


def parse(url: str) -> tuple[dict[str, Any], list[str]]:
    """Return Django's settings of the database, and the names of the options that are ignored.

    Raises ImproperlyConfigured, whose text never repeats the URL: it may hold a password.
    """
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)", url)
    name = scheme[0].lower() if scheme else ""
    if name == SQLITE_SCHEME:
        return _sqlite(url)
    if name in POSTGRES_SCHEMES and url[len(name) :].startswith("://"):
        return _postgresql(f"postgres{url[len(name) :]}")
    if name.partition("+")[0] in POSTGRES_SCHEMES:
        raise ImproperlyConfigured(f"{_FORM}; it begins with {name}:")
    if name:
        raise ImproperlyConfigured(f"{_FORM}; there is no support for {name}:")
    raise ImproperlyConfigured(_FORM)


def _sqlite(url: str) -> tuple[dict[str, Any], list[str]]:
    address, _, query = url.partition("?")
    path = address[len(SQLITE_SCHEME) + 1 :]
    if path in ("//", "///", "//:memory:", "///:memory:"):
        raise ImproperlyConfigured(
            "DATABASE_URL: a database in memory is empty for each thread, so SQLite needs a file"
        )
    if not path.startswith("///"):
        raise ImproperlyConfigured(
            f"{_FORM}; a path that begins where the server is started has three slashes: sqlite:///db.sqlite3"
        )
    return environ.Env.db_url_config(address), sorted({name for name, _ in _options(query)})


def _postgresql(url: str) -> tuple[dict[str, Any], list[str]]:
    address, _, query = url.partition("?")
    options = _options(query)
    ignored = sorted({name for name, _ in options if name.lower() in IGNORED})
    kept = [(name, value) for name, value in options if name.lower() not in IGNORED]
    _check_options([name for name, _ in kept])
    try:
        config = environ.Env.db_url_config(address + (f"?{urlencode(kept)}" if kept else ""))
    except ValueError:  # its text may hold a part of the password
        raise ImproperlyConfigured(
            f"{_FORM}. The port is no number, or the user or password holds one of / ? : @ #, which are written "
            "%2F %3F %3A %40 %23"
        ) from None
    if not config["NAME"]:
        raise ImproperlyConfigured(f"{_FORM}; there is no name of a database behind the host")
    return config, ignored


def _options(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def _check_options(names: list[str]) -> None:
    """Raise ImproperlyConfigured for an option that PostgreSQL's client does not know."""
    from psycopg.pq import Conninfo  # only now: with SQLite it need not be there

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    if unknown := sorted(set(names) - known):
        raise ImproperlyConfigured(f"DATABASE_URL: PostgreSQL's client has no option {', '.join(unknown)}")
