"""Authorization of clients that join a namespace: their credentials, and the grant that these get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from rest_framework.exceptions import AuthenticationFailed
from socketio.exceptions import ConnectionRefusedError

from instances.access.access import Access, ListenerAccess, still_authorized
from instances.access.client_address import is_within
from instances.access.gate import Caller
from instances.access.rate_limit import failed_authentications
from instances.access.rights import LISTEN, SEND
from instances.bounds import CACHED_GRANTS
from instances.errors import ApiError, NotFound
from instances.models import AccessRevision, ApiKey, Instance
from instances.unreadable import readable
from realtime.fanout.feeds import Audience, Listener
from realtime.fanout.recovery import ReplayRange, ResumeRequest, StartPosition
from realtime.socketio.handshake import Handshake
from realtime.socketio.server import TryLater

UNAUTHORIZED = "Unauthorized"
INVALID_NAMESPACE = "Invalid namespace"


@dataclass(frozen=True)
class Credentials:
    """The keys and minted tokens that a client presented, and where it comes from."""

    #: The key of each source that has one; None for a value that is not a string, and so no key.
    keys: tuple[str | None, ...]
    #: The minted tokens, likewise.
    tokens: tuple[str | None, ...]
    caller: Caller

    @classmethod
    def from_handshake(cls, handshake: Handshake, auth: Any) -> Credentials:
        """Collect them from the handshake's header and query, and from Socket.IO's `auth`."""
        keys: list[Any] = [key.decode(errors="replace") for key in handshake.keys]
        tokens = []
        if isinstance(auth, dict):
            keys += [auth["apikey"]] if "apikey" in auth else []
            tokens += [auth["token"]] if "token" in auth else []
        elif auth is not None:
            keys.append(auth)
        return cls(tuple(map(_string, keys)), tuple(map(_string, tokens)), handshake.caller)

    @property
    def _may_be_keyless(self) -> bool:
        # a proxy in WEBSOCKET_ALLOWED_HOSTS speaks for others, who must be in it as well
        addresses = (self.caller.peer, self.caller.address)
        return self.caller.may_be_keyless and all(
            is_within(each, settings.WEBSOCKET_ALLOWED_HOSTS) for each in addresses
        )

    @property
    def has_only_keys(self) -> bool:
        """True if there are keys, all of them strings, and no minted tokens."""
        return bool(self.keys) and not self.tokens and None not in self.keys

    @property
    def digests(self) -> tuple[bytes, ...]:
        """Digests of the keys, to recognise them by without storing them."""
        return tuple(sha256((key or "").encode(errors="replace")).digest() for key in self.keys)

    def valid_accesses(self) -> tuple[Access, ...] | None:
        """Return the access of each key and token, None unless all are valid. Reads the database."""
        return self.accesses(Access.from_keys(key for key in self.keys if key))

    def accesses(self, of_keys: Mapping[str, Access]) -> tuple[Access, ...] | None:
        """Return the access of each key, as found in `of_keys`, and of each token; None unless all are valid.

        Callers in WEBSOCKET_ALLOWED_HOSTS may listen without any. Reads the database for tokens.
        """
        if not (self.keys or self.tokens) and self._may_be_keyless:
            return (Access(frozenset((LISTEN,)), is_for_all=True),)
        found = [of_keys.get(key) if key else None for key in self.keys]
        found += [Access.from_minted_token(token) if token else None for token in self.tokens]
        valid = tuple(access for access in found if access is not None)
        return valid if valid and len(valid) == len(found) else None


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


@dataclass(frozen=True)
class NamespaceGrant:
    """The permission of some credentials to join a namespace, as of one read of the database."""

    replay_range: ReplayRange
    accesses: tuple[Access, ...]
    #: The access revision of that read.
    revision: int
    instance_id: UUID | None = None
    name: str | None = None

    def join(self, resume: ResumeRequest) -> Membership:
        """Return the membership of a client with these options."""
        return Membership(self.instance_id, self.replay_range.start(resume), self.accesses, self.revision, self.name)

    @property
    def is_cacheable(self) -> bool:
        """True if it holds until the access revision changes: minted tokens and expired keys end without that."""
        return not any(access.minter or (access.key and not access.key.is_usable) for access in self.accesses)

    @property
    def keys_to_note(self) -> list[ApiKey]:
        """The keys whose last use is to be stored again."""
        return [access.key for access in self.accesses if access.key and not access.key.is_use_recorded]


class AuthorizationCache:
    """A cache of grants by namespace and keys: a client with the same keys joins after one short read of the database.

    Refusals are not cached.
    """

    def __init__(self) -> None:
        self._grants: dict[tuple[str, tuple[Any, ...]], NamespaceGrant] = {}

    def get(self, namespace: str, credentials: Credentials) -> NamespaceGrant | None:
        """Return the cached grant; it is valid only while its revision is the current one."""
        grant = self._grants.get((namespace, credentials.digests)) if credentials.has_only_keys else None
        return grant if grant and grant.is_cacheable else None

    def set(self, namespace: str, credentials: Credentials, grant: NamespaceGrant) -> None:
        """Store a grant if it is cacheable."""
        if len(self._grants) >= CACHED_GRANTS:
            self._grants.clear()
        if credentials.has_only_keys and grant.is_cacheable:
            self._grants[namespace, credentials.digests] = grant


@dataclass(frozen=True)
class JoinRequest:
    """The request of a client to join a namespace, with the cached grant if there is one."""

    namespace: str
    credentials: Credentials
    cached: NamespaceGrant | None = field(default=None, compare=False)


#: Attempts to read the database without the access revision changing meanwhile.
ATTEMPTS = 5


def authorize_many(requests: list[JoinRequest]) -> list[NamespaceGrant | Exception]:
    """Return a grant, a ConnectionRefusedError or a TryLater for each request.

    A refusal does not tell a client with invalid keys which namespaces exist. The database is read once for all
    requests and under one access revision, so that the results are consistent.
    """
    for _ in range(ATTEMPTS):
        revision = AccessRevision.current()
        snapshot = _AccessSnapshot(requests, revision)
        if AccessRevision.current() == revision:
            return [snapshot.authorize(request) for request in requests]
    return [TryLater()] * len(requests)


class _AccessSnapshot:
    """The rows of the database that decide on some join requests."""

    def __init__(self, requests: list[JoinRequest], revision: int) -> None:
        self.revision = revision
        new = [request for request in requests if not self._has_valid_grant(request)]
        of_keys = Access.from_keys(key for request in new for key in request.credentials.keys if key)
        self.accesses = {request: request.credentials.accesses(of_keys) for request in new}
        names = {request.namespace.removeprefix("/") for request in new if "\x00" not in request.namespace}
        instances = readable(Instance.objects.filter(name__in=names - {""})) if new else ()
        self.instances = {instance.name: instance for instance in instances}
        ids = {request.cached.instance_id for request in requests if request.cached and request.cached.instance_id}
        ids |= {instance.pk for instance in self.instances.values()}
        self.ranges: dict[UUID | None, ReplayRange] = dict(ReplayRange.of_instances(ids).items())
        if any(request.namespace == "/" for request in requests):
            self.ranges[None] = ReplayRange.of_all()

    def _has_valid_grant(self, request: JoinRequest) -> bool:
        return request.cached is not None and request.cached.revision == self.revision

    def authorize(self, request: JoinRequest) -> NamespaceGrant | Exception:
        if request.cached and self._has_valid_grant(request):
            return replace(request.cached, replay_range=self.ranges[request.cached.instance_id])
        accesses = self.accesses[request]
        if accesses is None:
            is_within_rate = failed_authentications.allows(request.credentials.caller.address)
            return ConnectionRefusedError(UNAUTHORIZED) if is_within_rate else TryLater()
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
    """The membership of one client in a namespace, and the position from which it is sent events."""

    instance_id: UUID | None
    start: StartPosition
    accesses: tuple[Access, ...]
    revision: int
    #: The instance's name; None for `/`.
    name: str | None = None

    @classmethod
    def authorize(cls, namespace: str, credentials: Credentials, resume: ResumeRequest) -> Membership:
        """Authorize one client. Reads the database; raises ConnectionRefusedError or TryLater."""
        [grant] = authorize_many([JoinRequest(namespace, credentials)])
        if isinstance(grant, Exception):
            raise grant
        return grant.join(resume)

    def listener(self, sid: str, namespace: str, audience: Audience) -> Listener:
        """Return the listener that the relay sends events to."""
        return Listener(sid, namespace, self.instance_id, self.start.position, audience, revision=self.revision)

    @property
    def listener_accesses(self) -> set[ListenerAccess]:
        """The arguments of `still_authorized` for this membership."""
        return {(access, self.instance_id, self.name) for access in self.accesses}

    @property
    def expires_at(self) -> datetime | None:
        """The earliest expiry of its keys; None if none expires."""
        return min((access.expires_at for access in self.accesses if access.expires_at), default=None)

    def sending_instance(self, name: Any) -> Instance:
        """Return the instance to send a message from, after reading the keys again.

        `name` is used on `/` alone. Raises AuthenticationFailed, NotFound or ApiError.
        """
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

    def record(self, instance: Instance, text: str) -> None:
        """Record in the instance's history what a staff user did by a token of his session; other keys have none."""
        for user_id in {access.staff_user_id for access in self.accesses if access.staff_user_id}:
            LogEntry.objects.log_actions(user_id, [instance], CHANGE, text)


def still_authorized_or_ending(listeners: set[ListenerAccess]) -> set[ListenerAccess]:
    """Return the listeners that are still authorized, and those whose instance is deleted but not their key.

    The latter are to receive its last events, after which the relay disconnects them.
    """
    authorized = still_authorized(listeners)
    ids = {instance_id for _, instance_id, _ in listeners - authorized if instance_id}
    deleted = ids - set(Instance.objects.filter(pk__in=ids).values_list("pk", flat=True))
    ending = {listener for listener in listeners if listener[1] in deleted}
    keys = {access: access.refreshed() for access in {access for access, _, _ in ending}}
    may_listen = {access for access, current in keys.items() if current and current.may(LISTEN)}
    return authorized | {listener for listener in ending if listener[0] in may_listen}


def _named(name: str) -> Instance | None:
    return Instance.objects.filter(name=name).first() if "\x00" not in name else None
