"""An Engine.IO client of nothing but HTTP requests: it polls when it is told to, and shows each answer as it came."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

SEPARATOR = "\x1e"


class Polling:
    def __init__(self, url: str, headers: dict[str, Any] | None = None, **query: str | list[str]) -> None:
        self.url = url
        self.headers = headers or {}
        self.query = query | {"EIO": "4", "transport": "polling"}
        (opening,) = self.poll()
        self.query["sid"] = json.loads(opening[1:])["sid"]

    def poll(self) -> list[str]:
        """The packets in one answer."""
        return self._request(None).split(SEPARATOR)

    def poll_until(self, is_last: Callable[[str], Any]) -> list[str]:
        """All packets up to one that is_last; pings of the server are left out."""
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
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{error.code}: {error.read().decode()}") from None

    def join(self, namespace: str, **auth: Any) -> None:
        """CONNECT to a namespace, and wait until the server says so."""
        self.post(f"40{namespace},{json.dumps(auth)}")
        (answer,) = self.poll()
        assert answer.startswith(f"40{namespace},"), answer

    @staticmethod
    def event(packet: str) -> list[Any]:
        """What a packet `42/name,["event", …]` says."""
        return json.loads(packet[packet.index("[") :])
