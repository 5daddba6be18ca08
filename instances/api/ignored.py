"""Members that a request has and nothing reads: named in a header and, now and then, in the log."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from hashlib import sha256

from django.http import HttpRequest, HttpResponse

logger = logging.getLogger(__name__)

HEADER = "X-Ignored-Members"

#: Names in the header, and characters of each.
MAX_NAMES, MAX_LENGTH = 20, 40
#: Seconds until a key's ignored members are logged again, and keys of which that is remembered.
INTERVAL, MAX_KEYS = 3600, 1000

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")

#: The names that the request of this context has had so far; None outside of one.
_names: ContextVar[dict[str, None] | None] = ContextVar("ignored members", default=None)


def note_ignored(names: Iterable[str]) -> None:
    """Note members of the current request that are ignored; without effect outside of a request."""
    found = _names.get()
    if found is not None:
        for name in names:
            if len(found) <= MAX_NAMES:
                found[_UNSAFE.sub("?", name[:MAX_LENGTH])] = None


class IgnoredMembers:
    """Django middleware that names the ignored members of a request in a header, and once an hour for a key in the log.

    Only names are given, never values.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self._logged: dict[bytes, float] = {}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = _names.set({})
        try:
            response = self.get_response(request)
            found = list(_names.get() or ())
        finally:
            _names.reset(token)
        if found:
            listed = ", ".join(found[:MAX_NAMES]) + (", ..." if len(found) > MAX_NAMES else "")
            response.headers[HEADER] = listed
            if self._is_due(request.headers.get("apikey", "")):
                logger.warning("Members of a request to %s are ignored, nothing reads them: %s", request.path, listed)
        return response

    def _is_due(self, key: str) -> bool:
        now, digest = time.monotonic(), sha256(key.encode(errors="replace")).digest()
        if now - self._logged.get(digest, -INTERVAL) < INTERVAL:
            return False
        if len(self._logged) >= MAX_KEYS:
            self._logged.clear()
        self._logged[digest] = now
        return True
