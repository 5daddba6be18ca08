"""The stock JavaScript client in a Node process."""

from __future__ import annotations

import json
import queue
import secrets
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Node:
    """A Node process; `connect` opens sockets in it."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("node_client.js")
        self.process = subprocess.Popen(
            ["node", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.sockets: dict[str, NodeSocket] = {}
        self.ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.ready.wait(20), "Node did not start"

    def _read(self) -> None:
        assert self.process.stdout
        for text in self.process.stdout:
            line = json.loads(text)
            if line["is"] == "ready":
                self.ready.set()
            else:
                self.sockets[line["name"]].lines.put(line)

    def send(self, command: str, **parameters: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"command": command} | parameters) + "\n")

    def connect(self, url: str, over: NodeSocket | None = None, **options: Any) -> NodeSocket:
        """Open a socket; `options` are socket.io-client's: auth, query, extraHeaders, transports …

        With `over`, it shares the connection of that socket, and `url` is the namespace to join.
        """
        client = NodeSocket(self, secrets.token_hex(4))
        self.sockets[client.name] = client
        self.send("connect", name=client.name, url=url, options=options, over=over and over.name)
        return client

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class NodeSocket:
    """A socket, with the lines that it reported in order."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.name = name
        self.lines: queue.Queue[Line] = queue.Queue()
        self.seen: list[Line] = []
        self.kept: list[Line] = []

    def wait_for(self, kind: str, timeout: float = 10, keep: bool = False, **members: Any) -> Line:
        """Wait for the next line of this kind and with these members; returns it.

        Kinds are connect, connect_error, disconnect, event, ack and upgrade. Lines before it are dropped; with `keep`
        they are kept for the next call. All are in `seen`.
        """
        deadline = time.monotonic() + timeout
        skipped = []
        while True:
            line = self._next(max(0.001, deadline - time.monotonic()))
            if line is None:
                raise AssertionError(f"No {kind} {members}; there were {self.seen}")
            if line["is"] == kind and all(line.get(name) == value for name, value in members.items()):
                self.kept = skipped + self.kept if keep else self.kept
                return line
            skipped.append(line)

    def _next(self, timeout: float) -> Line | None:
        if self.kept:
            return self.kept.pop(0)
        try:
            line = self.lines.get(timeout=timeout)
        except queue.Empty:
            return None
        self.seen.append(line)
        return line

    def connected(self, timeout: float = 10) -> NodeSocket:
        self.wait_for("connect", timeout)
        return self

    def outcome(self, timeout: float = 10) -> str:
        """Wait for the result of joining; returns `connect`, or the message of the connect_error."""
        while True:
            try:
                line = self.lines.get(timeout=timeout)
            except queue.Empty:
                raise AssertionError(f"Neither connect nor connect_error; there were {self.seen}") from None
            self.seen.append(line)
            if line["is"] in ("connect", "connect_error"):
                return line.get("message", "connect")

    def event(self, name: str, timeout: float = 10, instance: str | None = None) -> Any:
        """Wait for the next event of this name; returns its first argument.

        On `/`, which receives the events of all tests, `instance` selects those of one instance.
        """
        while True:
            event = self.wait_for("event", timeout, event=name)["args"][0]
            if instance is None or event["instance"] == instance:
                return event

    def quiet(self, seconds: float = 0.5) -> list[Line]:
        """Wait until nothing was reported for so many seconds; returns the lines that were reported meanwhile."""
        lines = []
        while (line := self._next(seconds)) is not None:
            lines.append(line)
        return lines

    def emit(self, event: str, *args: Any) -> None:
        self.node.send("emit", name=self.name, event=event, args=args)

    def call(self, event: str, *args: Any, timeout: float = 10) -> Any:
        """Emit with an acknowledgement; returns its first argument."""
        ack = secrets.token_hex(4)
        self.node.send("emit", name=self.name, event=event, args=args, ack=ack)
        return self.wait_for("ack", timeout, keep=True, ack=ack)["args"][0]

    def call_all(self, event: str, arguments: list[Any], timeout: float = 60) -> list[Any]:
        """Emit once for each of these arguments, all in one turn of Node's event loop; returns the acknowledgements."""
        acks = [secrets.token_hex(4) for _ in arguments]
        self.node.send("emitAll", name=self.name, event=event, calls=list(zip(acks, arguments, strict=True)))
        results = {}
        while len(results) < len(acks):
            line = self.wait_for("ack", timeout)
            results[line["ack"]] = line["args"][0]
        return [results[ack] for ack in acks]

    def raw(self, packet: str) -> None:
        self.node.send("raw", name=self.name, packet=packet)

    def drop(self) -> None:
        """Close the transport; the client reconnects by itself."""
        self.node.send("drop", name=self.name)

    def disconnect(self) -> None:
        self.node.send("disconnect", name=self.name)
