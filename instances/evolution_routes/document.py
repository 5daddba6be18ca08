"""docs/compatibility.md, from the table of routes."""

from __future__ import annotations

from instances.evolution_routes.route import KINDS, REASONS, Answer, Route
from instances.evolution_routes.table import FAMILIES, ROUTES
from instances.evolution_variables import variables_table


def document() -> str:
    """Return docs/compatibility.md."""
    departures = [answer for route in ROUTES for answer in route.answers if answer.departs]
    lines = [_INTRODUCTION.format(count=len(ROUTES), departures=len(departures))]
    lines += ["", "| Answer | Times | Reason |", "|---|--:|---|"]
    lines += [f"| {answer.text} | {departures.count(answer)} | {reason} |" for answer, reason in REASONS.items()]
    for family in FAMILIES:
        lines += ["", f"## {family.title}", ""]
        lines += [family.text, ""] if family.text else []
        lines += [f"| Route | {' | '.join(KINDS.values())} | |", "|---|---|---|---|---|"]
        lines += [_row(route) for route in family.routes]
    lines += ["", "## Environment variables", "", _VARIABLES, "", variables_table()]
    return "\n".join(lines) + "\n"


def _row(route: Route) -> str:
    cells = [_cell(route, answer) for answer in route.answers]
    return f"| `{route.method} {route.path}` | {' | '.join(cells)} | {route.note} |".replace("|  |", "| |")


def _cell(route: Route, answer: Answer) -> str:
    return answer.text if answer.status else f"{route.success} {answer.text}"


_VARIABLES = """\
Those of Evolution API 2.4. One that is `replaced` has no effect: something else serves in its place.
[Settings](settings.md) has the variables that are read here."""

_INTRODUCTION = """\
# Compatibility with Evolution API

This server has all {count} routes of Evolution API 2.4, with its requests, answers and errors; `/openapi.json` has them
all. A table says of each what a valid request is answered with, for each kind of instance, and a test sends it. Routes
of our own are in the [README](../README.md) and in `/openapi.json`, too. This page is made from
`instances/evolution_routes/` by `make compatibility`.

As with Express, these routes answer in any letter case and with a slash at the end, without a redirect; the names of
instances keep their letters.

`works` begins with the status. Where Evolution API answers an error, this server answers 400 with its words, even where
that fails with 500. **{departures} answers are 400 where Evolution API shows a success** (a route counts once for each
kind of instance), for these reasons:"""
