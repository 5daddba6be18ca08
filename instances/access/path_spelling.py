"""The spelling of paths: Evolution API's routes answer in any letter case, and with a slash at their end.

Express, which Evolution API is made with, takes them so, and its clients send them so. A path is put right once, in
front of the gate, so that all behind it knows one spelling; there is no redirect, as clients of a POST follow none.
Paths of ours, such as the admin's, stay as they are.
"""

from __future__ import annotations

from collections import defaultdict

from instances.asgi import Scope
from instances.evolution_routes import ROUTES


def _shapes() -> dict[str, tuple[str, frozenset[int]]]:
    """Return the heads of the routes by their lower case: each as it is spelled, and the numbers of parts after it."""
    counts: dict[str, set[int]] = defaultdict(set)
    for route in ROUTES:
        parts = route.path.split("/")[1:]
        literal = [part for part in parts if not part.startswith("{")]
        if literal[0]:
            counts["/" + "/".join(literal)].add(len(parts) - len(literal))
    return {head.lower(): (head, frozenset(numbers)) for head, numbers in counts.items()}


#: A head is what stands in a path before its parameters: `/message/sendText`, `/verify-creds`.
_SHAPES = _shapes()
_HEADS = frozenset(head for head, _ in _SHAPES.values())
#: The first parts of the routes in lower case.
_FAMILIES = frozenset(head.split("/")[1] for head in _SHAPES)
#: Parts of a path that are looked at: no route has as many.
_MAX_PARTS = 8


def spelled(scope: Scope) -> Scope:
    """Return the scope of a request with the path of its route as it is spelled; the scope itself in most cases."""
    path: str = scope["path"]
    first = path.find("/", 1)
    if (path[1:] if first < 0 else path[1:first]).lower() not in _FAMILIES:
        return scope
    second = path.find("/", first + 1) if first > 0 else -1
    if (path if second < 0 else path[:second]) in _HEADS and path[-1] != "/":  # the common case
        return scope
    known = _known(path, _ends_with_slash(scope))
    return scope if known is None or known == path else scope | {"path": known}


def _known(path: str, ends_with_slash: bool) -> str | None:
    """Return the path of a route of Evolution API as it is spelled, None for any other path."""
    parts = (path[:-1] if ends_with_slash else path).split("/", _MAX_PARTS)[1:]
    if not all(parts):  # as in `//`
        return None
    for length in (2, 1):
        head = "/" + "/".join(parts[:length])
        canonical, counts = _SHAPES.get(head.lower() if head.isascii() else head, ("", ()))
        if len(parts) - length in counts:
            return "/".join([canonical, *parts[length:]])
    return None


def _ends_with_slash(scope: Scope) -> bool:
    """Return whether a path ends with a slash as it was sent: one that was percent-encoded is part of a name."""
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or b"/"
    return len(path) > 1 and path[-1] == "/" and raw.partition(b"?")[0].endswith(b"/")
