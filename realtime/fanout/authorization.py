"""Who may join a namespace, with which keys, and where in its log they begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework.exceptions import AuthenticationFailed
from socketio.exceptions import ConnectionRefusedError

from instances.access.access import LISTEN, SEND, Access, ListenerAccess, still_authorized
from instances.access.client_address import client_address, is_within
from instances.access.rate_limit import failed_authentications
from instances.errors import ApiError, NotFound
from instances.models import AccessRevision, ApiKey, Instance
from realtime.fanout.recovery import ReplayRange, ResumeRequest, StartPosition
from realtime.socketio.server import TryLater

UNAUTHORIZED = "Unauthorized"
INVALID_NAMESPACE = "Invalid namespace"


@dataclass(frozen=True)
class Credentials:
    """The keys that a client presented, and where it comes from."""

    #: Every place for keys that is filled; None stands for what is not a text, and cannot be one.
    keys: tuple[str | None, ...]
    #: The same for minted tokens.
    tokens: tuple[str | None, ...]
    peer: str
    #: The client's address: the peer's, or what trusted proxies say.
    address: str = ""

    @classmethod
    def from_request(cls, environ: dict[str, Any], auth: Any) -> Credentials:
        """From the header `apikey`, the query's `apikey` and Socket.IO's `auth`."""
        scope = environ["asgi.scope"]
        given: list[Any] = [value.decode(errors="replace") for name, value in scope["headers"] if name == b"apikey"]
        given += environ.get("evoapi.apikeys", ())
        tokens = []
        if isinstance(auth, dict):
            given += [auth["apikey"]] if "apikey" in auth else []
            tokens += [auth["token"]] if "token" in auth else []
        elif auth is not None:
            given.append(auth)
        peer = (scope.get("client") or ("", 0))[0]
        address = client_address(peer, environ.get("HTTP_X_FORWARDED_FOR", ""))
        return cls(tuple(map(_text, given)), tuple(map(_text, tokens)), peer, address)

    @property
    def is_of_keys(self) -> bool:
        return bool(self.keys) and not self.tokens and None not in self.keys

    @property
    def digests(self) -> tuple[bytes, ...]:
        """To know the keys again by, without keeping them."""
        return tuple(sha256((key or "").encode(errors="replace")).digest() for key in self.keys)

    def valid_accesses(self) -> tuple[Access, ...] | None:
        """What they open; reads the database."""
        return self.accesses(Access.from_keys(key for key in self.keys if key))

    def accesses(self, of_keys: Mapping[str, Access]) -> tuple[Access, ...] | None:
        """What they open, where these keys are known to open something.

        None unless every place that is filled holds something valid. Reads the database where there are tokens.
        """
        if not (self.keys or self.tokens) and is_within(self.peer, settings.WEBSOCKET_ALLOWED_HOSTS):
            return (Access(frozenset((LISTEN,)), is_for_all=True),)
        found = [of_keys.get(key) if key else None for key in self.keys]
        found += [Access.from_minted_token(token) if token else None for token in self.tokens]
        valid = tuple(access for access in found if access is not None)
        return valid if valid and len(valid) == len(found) else None


def _text(given: Any) -> str | None:
    return given if isinstance(given, str) else None


@dataclass(frozen=True)
class NamespaceGrant:
    """A namespace that is open to whoever presents what was presented, by a reading of the database."""

    replay_range: ReplayRange
    accesses: tuple[Access, ...]
    #: Of who may hear what: that of the reading.
    revision: int
    instance_id: UUID | None = None
    name: str | None = None

    def join(self, resume: ResumeRequest) -> Membership:
        return Membership(self.instance_id, self.replay_range.start(resume), self.accesses, self.revision, self.name)

    @property
    def is_lasting(self) -> bool:
        """Whether it stays open as long as nobody's access changes, and no key runs out. Tokens always do."""
        return not any(access.minter or (access.key and not access.key.is_usable) for access in self.accesses)

    @property
    def unnoted_keys(self) -> list[ApiKey]:
        """Those whose last use is to be stored anew."""
        return [access.key for access in self.accesses if access.key and not access.key.is_use_recorded]


class AuthorizationCache:
    """Doors that were found open: whoever comes with the same keys again is let in by one short look at the database.

    Whom the database refused is not known here, and asks it again.
    """

    #: Doors that are known; then all are forgotten.
    MAX = 10_000

    def __init__(self) -> None:
        self._grants: dict[tuple[str, tuple[Any, ...]], NamespaceGrant] = {}

    def get(self, namespace: str, credentials: Credentials) -> NamespaceGrant | None:
        grant = self._grants.get((namespace, credentials.digests)) if credentials.is_of_keys else None
        return grant if grant and grant.is_lasting else None

    def keep(self, namespace: str, credentials: Credentials, grant: NamespaceGrant) -> None:
        if len(self._grants) >= self.MAX:
            self._grants.clear()
        if credentials.is_of_keys and grant.is_lasting:
            self._grants[namespace, credentials.digests] = grant


@dataclass(frozen=True)
class JoinRequest:
    """Somebody who wants in, and the door if it is known."""

    namespace: str
    credentials: Credentials
    known: NamespaceGrant | None = field(default=None, compare=False)


#: Readings that are begun anew because access changed meanwhile.
ATTEMPTS = 5


def authorize_many(requests: list[JoinRequest]) -> list[NamespaceGrant | Exception]:
    """For each its door, a Refusal in words that tell a stranger nothing of which names exist, or TryLater.

    Reads the database, once for all, and under one revision: what the answers rest on holds together.
    """
    for _ in range(ATTEMPTS):
        revision = AccessRevision.current()
        reading = _AccessReading(requests, revision)
        if AccessRevision.current() == revision:
            return [reading.answer(request) for request in requests]
    return [TryLater()] * len(requests)


class _AccessReading:
    def __init__(self, requests: list[JoinRequest], revision: int) -> None:
        self.revision = revision
        new = [request for request in requests if not self._is_known(request)]
        of_keys = Access.from_keys(key for request in new for key in request.credentials.keys if key)
        self.accesses = {request: request.credentials.accesses(of_keys) for request in new}
        names = {request.namespace.removeprefix("/") for request in new if "\x00" not in request.namespace}
        self.instances = {one.name: one for one in Instance.objects.filter(name__in=names - {""})} if new else {}
        ids = {request.known.instance_id for request in requests if request.known and request.known.instance_id}
        ids |= {instance.pk for instance in self.instances.values()}
        self.ranges: dict[UUID | None, ReplayRange] = dict(ReplayRange.of_instances(ids).items())
        if any(request.namespace == "/" for request in requests):
            self.ranges[None] = ReplayRange.of_all()

    def _is_known(self, request: JoinRequest) -> bool:
        return request.known is not None and request.known.revision == self.revision

    def answer(self, request: JoinRequest) -> NamespaceGrant | Exception:
        if request.known and self._is_known(request):
            return replace(request.known, replay_range=self.ranges[request.known.instance_id])
        accesses = self.accesses[request]
        if accesses is None:
            is_one_more = failed_authentications.allows(request.credentials.address)
            return ConnectionRefusedError(UNAUTHORIZED) if is_one_more else TryLater()
        instance = self.instances.get(request.namespace.removeprefix("/"))
        if not all(access.may(LISTEN) and self._opens(access, request, instance) for access in accesses):
            return ConnectionRefusedError(INVALID_NAMESPACE)
        if instance is None:
            return NamespaceGrant(self.ranges[None], accesses, self.revision)
        return NamespaceGrant(self.ranges[instance.pk], accesses, self.revision, instance.pk, instance.name)

    def _opens(self, access: Access, request: JoinRequest, instance: Instance | None) -> bool:
        if request.namespace == "/":
            return access.is_for_all
        return instance is not None and access.opens(instance)


@dataclass(frozen=True)
class Membership:
    """A namespace that a client was let into, and the place in its log where its time begins."""

    instance_id: UUID | None
    start: StartPosition
    accesses: tuple[Access, ...]
    revision: int
    #: The instance's name; None for `/`.
    name: str | None = None

    @classmethod
    def authorize(cls, namespace: str, credentials: Credentials, resume: ResumeRequest) -> Membership:
        """Raises ConnectionRefusedError, or TryLater; reads the database."""
        [grant] = authorize_many([JoinRequest(namespace, credentials)])
        if isinstance(grant, Exception):
            raise grant
        return grant.join(resume)

    @property
    def joined(self) -> set[ListenerAccess]:
        """What `still_authorized` is asked about it."""
        return {(access, self.instance_id, self.name) for access in self.accesses}

    @property
    def expires_at(self) -> datetime | None:
        return min((access.expires_at for access in self.accesses if access.expires_at), default=None)

    def sending_instance(self, name: Any) -> Instance:
        """The instance that a message goes out from; `name` counts on `/` only. The keys are checked anew."""
        accesses = [access.refreshed() for access in self.accesses]
        if not all(accesses):
            raise AuthenticationFailed
        if self.instance_id is None and not isinstance(name, str):
            raise ApiError('instance requires property "instance"')
        instance = Instance.objects.filter(pk=self.instance_id).first() if self.instance_id else _named(name)
        if instance is None:
            raise NotFound(f'The "{name}" instance does not exist')
        if not all(access and access.opens(instance) for access in accesses):
            raise AuthenticationFailed
        if not all(access and access.may(SEND) for access in accesses):
            raise ApiError("This key may not send", status_code=403)
        return instance


def still_authorized_or_ending(asked: set[ListenerAccess]) -> set[ListenerAccess]:
    """Those that may still listen, and those whose instance is gone: they hear its last events, and leave with them."""
    let_in = still_authorized(asked)
    ids = {instance_id for _, instance_id, _ in asked - let_in if instance_id}
    kept = set(Instance.objects.filter(pk__in=ids).values_list("pk", flat=True))
    return let_in | {joined for joined in asked if joined[1] is not None and joined[1] in ids - kept}


def _named(name: str) -> Instance | None:
    return Instance.objects.filter(name=name).first() if "\x00" not in name else None
