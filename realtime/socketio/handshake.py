"""The request that opens an Engine.IO session, reduced to what its session keeps of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import NamedTuple

from instances.access.gate import Caller
from instances.asgi import AsgiHeaders, Scope
from instances.bounds import HANDSHAKE_KEY_BYTES, USER_AGENT_CHARACTERS
from realtime.socketio.packets import EngineError

#: Keys in header and query, at most: each costs more than its bytes.
MAX_KEYS = 8


@dataclass(frozen=True, slots=True)
class Handshake:
    """The part of the request that opened a session which joining namespaces needs."""

    #: The API keys in the header `apikey` and in the query, empty ones too.
    keys: tuple[bytes, ...]
    caller: Caller
    user_agent: str = ""

    @property
    def client(self) -> Client:
        return Client(self.caller.address, self.user_agent)

    @classmethod
    def of(cls, scope: Scope, query: dict[str, list[str]]) -> Handshake:
        """Read the handshake's scope and its query. Raises EngineError for too many or too long keys."""
        keys = tuple(value for name, value in scope["headers"] if name == b"apikey")
        keys += tuple(key.encode() for key in query.get("apikey", ()))
        if len(keys) > MAX_KEYS or sum(map(len, keys)) > HANDSHAKE_KEY_BYTES:
            raise EngineError(
                f"The header and the query have over {MAX_KEYS} API keys or {HANDSHAKE_KEY_BYTES} bytes of them:"
                " send the key as `auth`",
                431,
            )
        return cls(keys, Caller.of(scope), _user_agent(scope))


class Client(NamedTuple):
    """The address of a client and the beginning of its User-Agent, to show."""

    address: str
    user_agent: str

    @classmethod
    def of(cls, scope: Scope) -> Client:
        """Return the client of a request's scope."""
        return cls(Caller.of(scope).address, _user_agent(scope))


def _user_agent(scope: Scope) -> str:
    """Return the beginning of a request's User-Agent: one object for all clients with the same one."""
    return sys.intern(str(AsgiHeaders(scope["headers"]).get("user-agent", "")[:USER_AGENT_CHARACTERS]))
