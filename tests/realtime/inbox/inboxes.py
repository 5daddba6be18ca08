"""Inboxes of a staff user of a running server, as the page makes and reads them."""

from __future__ import annotations

import html
import re
from typing import Any

from tests.clients.staff import Staff
from tests.in_process import until
from tests.server import Response, Server


class Mine:
    """An inbox that a staff user has made."""

    def __init__(self, staff: Staff) -> None:
        self.staff = staff
        made = staff.post("/console/inbox/new/")
        assert made.status == 302, made.body
        self.page = made.headers["Location"]
        found = re.search(r'id="url" readonly value="([^"]+)"', staff.get(self.page).body.decode())
        assert found
        self.url = html.unescape(found[1])
        #: The path to post to.
        self.path = self.url.removeprefix(staff.server.url)

    def rows(self, after: int = 0) -> list[dict[str, Any]]:
        """Return the requests without their bodies, oldest first."""
        return self.staff.get(f"{self.page}requests/?after={after}").json["requests"]

    def detail(self, row: dict[str, Any]) -> dict[str, Any]:
        return self.staff.get(f"{self.page}requests/{row['id']}/").json

    def wait(self, count: int, timeout: float = 10) -> list[dict[str, Any]]:
        """Return the requests once there are so many."""
        return until(lambda: len(rows := self.rows()) >= count and rows, timeout)

    def post(self, body: bytes | str = b"{}", server: Server | None = None, **headers: str) -> Response:
        data = body.encode() if isinstance(body, str) else body
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return (server or self.staff.server).request("POST", self.path, data, key=None, headers=sent)
