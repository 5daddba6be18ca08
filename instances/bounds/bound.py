"""A bound, its environment variable, and the document of all bounds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

#: What the variables of bounds begin with, but for a few that are older.
PREFIX = "LIMIT_"

#: Characters of a value that an error shows.
MAX_SHOWN = 60


class Holder(Enum):
    """The one whose use a bound limits, with the heading of its part of docs/limits.md."""

    STRANGER = "Anybody, without a key"
    KEY = "A key"
    STAFF = "A user of the admin"
    INSTANCE = "An instance"
    RECEIVER = "A receiver of webhooks"
    PROCESS = "A server process, for all together"


@dataclass(frozen=True)
class Bound:
    """A bound, as its row in docs/limits.md."""

    variable: str
    default: int
    #: The unit of the value, such as "bytes", "seconds" or "sessions".
    unit: str
    holder: Holder
    #: The thing that is limited, as a noun phrase.
    limits: str
    #: The consequence for whoever goes beyond it, and for the others.
    beyond: str
    #: True if `manage.py serve` keeps it for each connection; under any other server a proxy has to.
    needs_serve: bool
    #: Its value in this process.
    value: int

    @property
    def example(self) -> int:
        """A value that its variable takes."""
        return 2 * self.default

    @property
    def amount(self) -> str:
        """The value with its unit, as the server logs it."""
        return f"{self.value:,} {self.unit}"


#: All bounds, by their variable.
TABLE: dict[str, Bound] = {}

#: A sentence for each variable that cannot be read.
ERRORS: list[str] = []


def bound(
    variable: str,
    default: int,
    unit: str,
    holder: Holder,
    *,
    limits: str,
    beyond: str,
    least: int = 1,
    needs_serve: bool = False,
) -> int:
    """Declare a bound; returns its value in this process: its variable's, or the default.

    A variable that is no whole number, or below `least`, is noted in ERRORS, with which the settings refuse to load.
    """
    value, text = default, os.environ.get(variable, "").strip().strip("'\"")
    if text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= least:
        value = int(text)
    elif text:
        ERRORS.append(
            f"{variable} takes a whole number of {unit}, {least} or more, such as {default}; not {text[:MAX_SHOWN]!r}"
        )
    TABLE[variable] = Bound(variable, default, unit, holder, limits, beyond, needs_serve, value)
    return value


def bounds_of_proxies() -> list[Bound]:
    """Return the bounds that a proxy has to set under any server but `manage.py serve`."""
    return [bound for bound in TABLE.values() if bound.needs_serve]


def document() -> str:
    """Return docs/limits.md."""
    lines = [_INTRODUCTION]
    for holder in Holder:
        rows = [bound for bound in TABLE.values() if bound.holder is holder]
        if rows:
            lines += [
                f"## {holder.value}\n",
                "| Bound | Variable | Default | Example | Beyond |",
                "|---|---|---|---|---|",
            ]
            lines += [_row(bound) for bound in rows]
            lines.append("")
    return "\n".join(lines)


def _row(bound: Bound) -> str:
    star = " *" if bound.needs_serve else ""
    return f"| {bound.limits} | `{bound.variable}`{star} | {_amount(bound)} | `{bound.example}` | {bound.beyond} |"


def _amount(bound: Bound) -> str:
    for size, name in ((1024 * 1024, "MiB"), (1024, "KiB")):
        if bound.unit == "bytes" and bound.default % size == 0:
            return f"{bound.default // size} {name} ({bound.default})"
    return f"{bound.default:,} {bound.unit}"


_INTRODUCTION = """\
# Limits

What a client, a key, an instance or the process may hold or cost, so that nobody stops anybody else. Each limit is an
environment variable: set it to a whole number of the unit that its default has, bytes where it is a size, and restart
all processes. The defaults serve an honest load many times over; the examples are twice as much. The last column says
what happens beyond, so that it can be recognised.

Those with a star are kept by `manage.py serve` alone. Under any other server (Daphne, Hypercorn, uvicorn's own command)
a proxy in front of it has to set them: [proxies](proxies.md).

Each process counts for itself, and so does each worker of `manage.py serve --workers`: with four workers a client may
have four times of what is limited here, such as log-ins, wrong keys and bytes, as its connections are spread over them.
Divide what is to hold for all together, say `LIMIT_LOG_INS`, `LIMIT_LOG_INS_PER_MINUTE`, `LIMIT_WRONG_KEYS` or
`MAX_HELD_BYTES`, by the number of workers. What is counted in the database, such as an instance's endpoints and pending
deliveries, holds for all of them.

This page is made from `instances/bounds/` by `make limits`.
"""
