"""Runs `manage.py`, and logs each host that it connects to or looks up: python -m tests.audited serve 8080.

The hook sees what Python code does, from the first import on: https://docs.python.org/3/library/audit_events.html.
"""

from __future__ import annotations

import sys
from typing import Any

#: What a line of the log begins with; the event and the host follow.
CONTACT = "AUDIT: contact by"

#: The number of the argument that has the host or the address, by event. Other programs could connect, too.
_EVENTS = {
    **{"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0},
    **{"socket.gethostbyname": 0, "socket.gethostbyaddr": 0, "socket.getnameinfo": 0},
    **{"subprocess.Popen": 0, "os.system": 0, "os.posix_spawn": 0, "os.exec": 0},
}


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS:
        return
    target = arguments[_EVENTS[event]]
    if event == "socket.sendmsg" and target is None:  # connected already
        return
    host = target[0] if isinstance(target, tuple) else target
    print(f"{CONTACT} {event}: {host!r}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.addaudithook(_hook)
    from tests.watched import main

    main()
