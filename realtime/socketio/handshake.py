"""The request that opens an Engine.IO session, reduced to what its session keeps of it."""

from __future__ import annotations

from dataclasses import dataclass

from instances.access.gate import Caller
from instances.asgi import Scope
from instances.bounds import HANDSHAKE_KEY_BYTES
from realtime.socketio.packets import EngineError

#: Keys in header and query, at most: each costs more than its bytes.
MAX_KEYS = 8


@dataclass(frozen=True, slots=True)
class Handshake:
    """The part of the request that opened a session which joining namespaces needs."""

    #: The API keys in the header `apikey` and in the query, empty ones too.
    keys: tuple[bytes, ...]
    caller: Caller

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
        return cls(keys, Caller.of(scope))
