"""The check of every event that the tests emit: its envelope and its data are as the JSON Schema of its type says.

In this process each announced event is looked at, in servers each event of their logs. Left out is what tests make up:

- the data of events that they publish: a server under test notes their ids (`note_published`);
- events that they record without `announce`, as other applications do;
- the data of events in tests that are marked `made_up_events`, which write such into a server's log.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema_rs
import orjson
import psycopg

#: The file in a server's DATA_DIR with the ids of the events that were published.
PUBLISHED = "published-events"
#: Events of a log that are looked at after each test, and bytes of each.
MAX_EVENTS, MAX_BYTES = 1000, 64 * 1024

_SELECT = f"SELECT id, envelope FROM realtime_event WHERE id > {{}} AND length(envelope) < {MAX_BYTES} ORDER BY id DESC"


@cache
def _validator(name: str, with_data: bool) -> Any:
    from realtime.pages.documents.event_schemas import schemas

    schema = schemas()[name]
    if not with_data:
        schema = schema | {"properties": schema["properties"] | {"data": {}}}
    # the documents promise clients that members may be added; a member that the schema lacks is a fault all the same
    strict = {"additionalProperties": False, "required": [*schema["required"], "prev"]}
    return jsonschema_rs.validator_for(schema | strict, validate_formats=True)


def faults(envelope: dict[str, Any], with_data: bool = True) -> list[str]:
    """Return in words where an envelope is not as its schema says."""
    errors = _validator(envelope["event"], with_data).iter_errors(envelope)
    return [f"{envelope['event']} {envelope['id']}: {'.'.join(map(str, e.instance_path))}: {e.message}" for e in errors]


def data_faults(event_type: Any, data: Any) -> list[str]:
    """Return in words where the data of an event is not as the schema of its type says."""
    from realtime.envelope import encode

    encoded = encode(event_type.scrub(data))
    errors = _data_validator(event_type).iter_errors(orjson.loads(encoded)) if len(encoded) < MAX_BYTES else ()
    return [f"{event_type}: {'.'.join(map(str, e.instance_path))}: {e.message}" for e in errors]


@cache
def _data_validator(event_type: Any) -> Any:
    return jsonschema_rs.validator_for(event_type.schema, validate_formats=True)


class Log:
    """The log of a server's database, read from where the last look at it ended."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._url = environment.get("DATABASE_URL", "")
        self._data_dir = Path(environment["DATA_DIR"])
        self._connection: psycopg.Connection[Any] | None = None
        self._last = 0
        self._published: set[str] = set()
        self._read = 0

    def faults(self) -> list[str]:
        """Return in words what is wrong with the events since the last call, of which it looks at the latest."""
        rows = self._rows()
        self._last = max([self._last, *(row for row, _ in rows)])
        self._read_published()
        return [fault for _, stored in rows for fault in self._faults(stored)]

    def _rows(self) -> list[tuple[int, bytes]]:
        """Return the latest of the new rows; the connection to PostgreSQL is kept, as it takes long to open one."""
        select = _SELECT.format(self._last)
        if self._url.startswith("postgres"):
            if self._connection is None:
                self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=3)
            return self._connection.execute(select).fetchmany(MAX_EVENTS)
        file = unquote(urlsplit(self._url).path) if self._url else self._data_dir / "db.sqlite3"
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return database.execute(select).fetchmany(MAX_EVENTS)

    def close(self) -> None:
        """Close the connection, if there is one; the next look opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read_published(self) -> None:
        file = self._data_dir / PUBLISHED
        if file.exists():
            with file.open() as lines:
                lines.seek(self._read)
                self._published.update(line.rstrip("\n") for line in lines)
                self._read = file.stat().st_size

    def _faults(self, stored: Any) -> list[str]:
        try:
            envelope = orjson.loads(bytes(stored))
            kind, id = envelope["event"], envelope["id"]
        except (ValueError, TypeError, KeyError):
            return []  # tests of rows that cannot be read have broken it
        is_published = bool({id, f"{envelope['instance']} {kind}"} & self._published)
        return faults(envelope, with_data=not is_published)


def note_published(data_dir: str) -> None:
    """Have this process, which is a server's, note the ids of the events that clients publish.

    Those that are deferred have no id yet: their instance and type are noted.
    """
    from realtime.api.publish import PublishWork

    respond = PublishWork.response
    file = Path(data_dir) / PUBLISHED

    def respond_and_note(work: PublishWork) -> Any:
        response = respond(work)
        events = orjson.loads(response.body)["events"]
        lines = [event["id"] or f"{work.name} {event['event']}" for event in events]
        with file.open("a") as notes:
            notes.write("".join(f"{line}\n" for line in lines))
        return response

    PublishWork.response = respond_and_note  # type: ignore[method-assign]
