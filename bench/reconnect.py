"""The time in which all clients are back after a crash: `make bench-reconnect`.

5,000 clients, all from one address, of one namespace and then with a namespace each. The server is killed and started
again, on SQLite; each client reconnects after half a second to one and a half, as the stock client does, and recovers
its state. Time counts from the first connection that the server accepts to the last CONNECT. It needs `make setup-dev`,
since server and clients are those of the tests.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from tests.clients.crowd import Crowd
from tests.environment import GLOBAL_KEY
from tests.server import Server, migrated_database, server_environment

#: Creates instances; the names are inserted.
CREATE = """
from django.db import transaction
from instances.models import Instance
with transaction.atomic():
    for name in {names!r}:
        Instance(name=name).save()
"""


def measure(server: Server, namespaces: list[str], per_namespace: int) -> None:
    """Print how long the clients take to join first, and after a kill; and the longest stall of the event loop."""
    with Crowd(server.url, namespaces, per_namespace, apikey=GLOBAL_KEY, recover=True) as crowd:
        began = time.monotonic()
        crowd.wait_for(lambda client: client.is_joined, timeout=120)
        first = time.monotonic() - began
        server.kill()
        crowd.wait_for(lambda client: not client.is_joined, timeout=60)
        server.new_stalls()
        server.start()
        began = time.monotonic()
        crowd.wait_for(lambda client: client.is_joined, timeout=120)
        again = time.monotonic() - began
        recovered = crowd.count(lambda client: client.recovered == [False, True])
    stalls = [stall.split("for ")[1].split(" of")[0] for stall in server.new_stalls()]
    print(
        f"{len(crowd.clients)} clients, {len(namespaces)} namespaces: joined in {first:.1f} s, back in {again:.1f} s "
        f"({recovered} recovered); stalls over 50 ms: {', '.join(stalls) or 'none'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.reconnect", description=__doc__)
    parser.add_argument("--clients", type=int, default=5000)
    clients = parser.parse_args().clients
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="bench-reconnect-") as directory:
        for folder in ("migrated", "data"):
            (Path(directory) / folder).mkdir()
        with (
            migrated_database(Path(directory) / "migrated") as database,
            server_environment(database, Path(directory) / "data") as environment,
        ):
            server = Server(environment)
            server.start()
            names = [f"instance-{number}" for number in range(clients)]
            server.shell(CREATE.format(names=names))
            measure(server, [f"/{names[0]}"], clients)
            measure(server, [f"/{name}" for name in names], 1)
            server.stop()


if __name__ == "__main__":
    main()
