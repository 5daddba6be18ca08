"""Rows of the tests of the API."""

from __future__ import annotations

import re
import uuid
from typing import Any
from urllib.parse import quote

from tests.server import Server

SETTINGS = {
    "rejectCall": False,
    "msgCall": "",
    "groupsIgnore": False,
    "alwaysOnline": False,
    "readMessages": False,
    "readStatus": False,
    "syncFullHistory": False,
    "wavoipToken": "",
}


ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def unique(prefix: str = "loja") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def a_number() -> str:
    return str(uuid.uuid4().int)[:14]


def row(server: Server, name: str) -> dict[str, Any]:
    [found] = server.get(f"/instance/fetchInstances?instanceName={quote(name)}").json
    return found


def exists(server: Server, name: str) -> bool:
    return server.get(f"/instance/fetchInstances?instanceName={quote(name)}").status == 200
