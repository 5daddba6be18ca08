"""HTTP byte for byte, for requests that no library would send."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from tests.server import Server


class RawHttp:
    """A connection that sends what it is given, and reads one response after the other."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), 15)
        self.received = self.socket.makefile("rb")

    def __enter__(self) -> RawHttp:
        return self

    def __exit__(self, *error: object) -> None:
        self.received.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def response(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Return the status, the headers by their names in lower case, and the body of the next response."""
        status = int(self.received.readline().split()[1])
        headers = {}
        while line := self.received.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        return status, headers, self.received.read(int(headers.get(b"content-length", 0)))


def begin_of_response(opened: ExitStack, server: Server, request: bytes) -> bytes:
    """Send a request, and read no more of its response than the status; the connection stays open as long as `opened`.

    Its buffer is small, so that the server has to wait with a large response.
    """
    reader = opened.enter_context(socket.socket())
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(20)
    reader.connect(("127.0.0.1", server.port))
    reader.sendall(request)
    return reader.recv(12)
