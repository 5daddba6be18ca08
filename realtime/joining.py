"""Who may join a namespace, with which keys, and where in its log they begin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import parse_qs
from uuid import UUID

from django.conf import settings
from rest_framework.exceptions import AuthenticationFailed
from socketio.exceptions import ConnectionRefusedError as Refusal

from instances.addresses import client_address, is_within
from instances.authentication import LISTEN, SEND, Access, Joined, still_listening
from instances.errors import NotFound, Refused
from instances.models import AccessRevision, ApiKey, Instance
from instances.throttling import failed_authentications
from realtime.recovery import Beginning, Stretch, Wish
from realtime.server import TryLater

UNAUTHORIZED = "Unauthorized"
INVALID_NAMESPACE = "Invalid namespace"


@dataclass(frozen=True)
class Credentials:
    """The keys that a client presented, and where it comes from."""

    #: Every place for keys that is filled; what is not a text cannot be one.
    keys: tuple[Any, ...]
    #: The same for minted tokens.
    tokens: tuple[Any, ...]
    peer: str
    #: The client's address: the peer's, or what trusted proxies say.
    address: str = ""

    @classmethod
    def presented(cls, environ: dict[str, Any], auth: Any) -> Credentials:
        """From the header `apikey`, the query's `apikey` and Socket.IO's `auth`."""
        scope = environ["asgi.scope"]
        given: list[Any] = [value.decode(errors="replace") for name, value in scope["headers"] if name == b"apikey"]
        given += parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True).get("apikey", [])
        tokens = []
        if isinstance(auth, dict):
            given += [auth["apikey"]] if "apikey" in auth else []
            tokens += [auth["token"]] if "token" in auth else []
        elif auth is not None:
            given.append(auth)
        peer = (scope.get("client") or ("", 0))[0]
        address = client_address(peer, environ.get("HTTP_X_FORWARDED_FOR", ""))
        return cls(tuple(given), tuple(tokens), peer, address)

    @property
    def is_of_keys(self) -> bool:
        return bool(self.keys) and not self.tokens and all(isinstance(key, str) for key in self.keys)

    @property
    def digests(self) -> tuple[bytes, ...]:
        """To know the keys again by, without keeping them."""
        return tuple(sha256(key.encode(errors="replace")).digest() for key in self.keys)

    def accesses(self) -> list[Access]:
        """What they open. Raises Refusal unless every place that is filled holds a valid key."""
        if not (self.keys or self.tokens) and is_within(self.peer, settings.WEBSOCKET_ALLOWED_HOSTS):
            return [Access(frozenset((LISTEN,)), is_for_all=True)]
        found = [Access.of(key) if isinstance(key, str) else None for key in self.keys]
        found += [Access.of_minted(token) if isinstance(token, str) else None for token in self.tokens]
        valid = [access for access in found if access is not None]
        if not valid or len(valid) < len(found):
            if not failed_authentications.takes(self.address):
                raise TryLater
            raise Refusal(UNAUTHORIZED)
        return valid


@dataclass(frozen=True)
class Door:
    """A namespace that is open to whoever presents what was presented, by a reading of the database."""

    stretch: Stretch
    accesses: tuple[Access, ...]
    #: Of who may hear what, read before anything else: a change after it is seen later.
    revision: int
    instance_id: UUID | None = None
    name: str | None = None

    @classmethod
    def open(cls, namespace: str, credentials: Credentials) -> Door:
        """Raises Refusal, in words that tell a stranger nothing of which names exist; reads the database."""
        revision = AccessRevision.current()
        accesses = tuple(credentials.accesses())
        may_listen = all(access.may(LISTEN) for access in accesses)
        if namespace == "/":
            if not may_listen or not all(access.is_for_all for access in accesses):
                raise Refusal(INVALID_NAMESPACE)
            return cls(Stretch.of_all(), accesses, revision)
        instance = _named(namespace.removeprefix("/"))
        if instance is None or not may_listen or not all(access.opens(instance) for access in accesses):
            raise Refusal(INVALID_NAMESPACE)
        stretch = Stretch.of_instance(instance.pk)
        if not Instance.objects.filter(pk=instance.pk).exists():
            raise Refusal(INVALID_NAMESPACE)  # deleted just now: its last events may lie before our beginning
        return cls(stretch, accesses, revision, instance.pk, instance.name)

    def join(self, wish: Wish) -> Join:
        return Join(self.instance_id, self.stretch.begin(wish), self.accesses, self.revision, self.name)

    @property
    def is_lasting(self) -> bool:
        """Whether it stays open as long as nobody's access changes, and no key runs out. Tokens always do."""
        return not any(access.minter or (access.key and not access.key.is_usable) for access in self.accesses)

    @property
    def unnoted_keys(self) -> list[ApiKey]:
        """Those whose last use is to be stored anew."""
        return [access.key for access in self.accesses if access.key and not access.key.is_noted]


class Look(NamedTuple):
    """How far a stream is now, and under which revision of who may hear what."""

    stretch: Stretch
    revision: int

    @classmethod
    def again(cls, instance_id: UUID | None) -> Look | None:
        """Reads the database; None where there is nothing any more.

        The revision comes last: while it is the same, the instance is still there too.
        """
        try:
            stretch = Stretch.of_instance(instance_id) if instance_id else Stretch.of_all()
        except Instance.DoesNotExist:
            return None
        return cls(stretch, AccessRevision.current())


class KnownDoors:
    """Doors that were found open: whoever comes with the same keys again is let in by one short look at the database.

    Whom the database refused is not known here, and asks it again.
    """

    #: Doors that are known; then all are forgotten.
    MAX = 10_000

    def __init__(self) -> None:
        self._doors: dict[tuple[str, tuple[Any, ...]], Door] = {}

    def get(self, namespace: str, credentials: Credentials) -> Door | None:
        door = self._doors.get((namespace, credentials.digests)) if credentials.is_of_keys else None
        return door if door and door.is_lasting else None

    def keep(self, namespace: str, credentials: Credentials, door: Door) -> None:
        if len(self._doors) >= self.MAX:
            self._doors.clear()
        if credentials.is_of_keys and door.is_lasting:
            self._doors[namespace, credentials.digests] = door


@dataclass(frozen=True)
class Join:
    """A namespace that a client was let into, and the place in its log where its time begins."""

    instance_id: UUID | None
    begin: Beginning
    accesses: tuple[Access, ...]
    revision: int
    #: The instance's name; None for `/`.
    name: str | None = None

    @classmethod
    def authorise(cls, namespace: str, credentials: Credentials, wish: Wish) -> Join:
        """Raises Refusal; reads the database."""
        return Door.open(namespace, credentials).join(wish)

    @property
    def joined(self) -> set[Joined]:
        """What `still_listening` is asked about it."""
        return {(access, self.instance_id, self.name) for access in self.accesses}

    @property
    def expires_at(self) -> datetime | None:
        return min((access.expires_at for access in self.accesses if access.expires_at), default=None)

    def sending_instance(self, name: Any) -> Instance:
        """The instance that a message goes out from; `name` counts on `/` only. The keys are checked anew."""
        accesses = [access.renewed() for access in self.accesses]
        if not all(accesses):
            raise AuthenticationFailed
        if self.instance_id is None and not isinstance(name, str):
            raise Refused('instance requires property "instance"')
        instance = Instance.objects.filter(pk=self.instance_id).first() if self.instance_id else _named(name)
        if instance is None:
            raise NotFound(f'The "{name}" instance does not exist')
        if not all(access and access.opens(instance) for access in accesses):
            raise AuthenticationFailed
        if not all(access and access.may(SEND) for access in accesses):
            raise Refused("This key may not send", status_code=403)
        return instance


def still_let_in(asked: set[Joined]) -> set[Joined]:
    """Those that may still listen, and those whose instance is gone: they hear its last events, and leave with them."""
    let_in = still_listening(asked)
    ids = {instance_id for _, instance_id, _ in asked - let_in if instance_id}
    kept = set(Instance.objects.filter(pk__in=ids).values_list("pk", flat=True))
    return let_in | {joined for joined in asked if joined[1] is not None and joined[1] in ids - kept}


def _named(name: str) -> Instance | None:
    return Instance.objects.filter(name=name).first() if "\x00" not in name else None
