"""The routes of Evolution API 2.4, and `docs/compatibility.md`, which says what this server answers to each.

`make compatibility` writes the document.
"""

from __future__ import annotations

import re
from functools import cache

from instances.evolution_routes.document import document
from instances.evolution_routes.route import KINDS, Answer, Family, Route
from instances.evolution_routes.table import FAMILIES, ROUTES

__all__ = [
    "FAMILIES",
    "KINDS",
    "ROUTES",
    "Answer",
    "Family",
    "Route",
    "document",
    "is_evolution_route",
]


def is_evolution_route(method: str, path: str) -> bool:
    """Return whether Evolution API has this route; `path` has the values of its parameters."""
    pattern = _patterns().get(method)
    return pattern is not None and pattern.fullmatch(path) is not None


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    paths: dict[str, list[str]] = {}
    for route in ROUTES:
        pattern = "/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in route.path.split("/"))
        paths.setdefault(route.method, []).append(pattern)
    return {method: re.compile("|".join(patterns)) for method, patterns in paths.items()}
