"""An Engine.IO client of the polling transport, which polls when the test calls it and returns raw packets."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

SEPARATOR = "\x1e"


class Polling:
    """An Engine.IO session over HTTP long-polling."""

    def __init__(self, url: str, headers: dict[str, Any] | None = None, **query: str | list[str]) -> None:
        self.url = url
        self.headers = headers or {}
        self.query = query | {"EIO": "4", "transport": "polling"}
        (opening,) = self.poll()
        self.query["sid"] = json.loads(opening[1:])["sid"]

    def poll(self) -> list[str]:
        """Poll once; returns the packets in the response."""
        return self._request(None).split(SEPARATOR)

    def poll_until(self, is_last: Callable[[str], Any]) -> list[str]:
        """Poll until `is_last` is true of a packet; returns all packets but the server's pings."""
        packets: list[str] = []
        while not (packets and is_last(packets[-1])):
            packets += [packet for packet in self.poll() if packet != "2"]
        return packets

    def post(self, *packets: str) -> str:
        return self._request(SEPARATOR.join(packets).encode())

    @property
    def path(self) -> str:
        return f"/socket.io/?{urlencode(self.query, doseq=True)}"

    def _request(self, body: bytes | None) -> str:
        request = urllib.request.Request(self.url + self.path, body, self.headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{error.code}: {error.read().decode()}") from None

    def join(self, namespace: str, **auth: Any) -> None:
        """Send a CONNECT packet, and wait for the server's."""
        self.post(f"40{namespace},{json.dumps(auth)}")
        (packet,) = self.poll()
        assert packet.startswith(f"40{namespace},"), packet

    @staticmethod
    def event(packet: str) -> list[Any]:
        """Return the name and the arguments in a packet `42/name,["event", …]`."""
        return json.loads(packet[packet.index("[") :])
