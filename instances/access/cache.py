"""A cache of keys' access, valid until the access of any key changes."""

from __future__ import annotations

import hashlib
from uuid import UUID

from instances.access.access import Access
from instances.bounds import CACHED_KEYS
from instances.models import AccessRevision, Instance


class StaleAccess(Exception):
    """Raised when access has changed since it was read; the caller repeats its work, which reads it again."""


class AccessCache:
    """A cache of granted access alone: a key or instance that is not cached is looked up in the database.

    Use it between `renew` and `check`, and in one thread.
    """

    def __init__(self) -> None:
        self._revision: int | None = None
        self._accesses: dict[bytes, Access] = {}
        self._opened: set[tuple[int, UUID]] = set()

    def renew(self) -> None:
        """Clear the cache if any access has changed."""
        revision = AccessRevision.current()
        if revision != self._revision or len(self._accesses) + len(self._opened) > CACHED_KEYS:
            self._revision = revision
            self._accesses.clear()
            self._opened.clear()

    def check(self) -> None:
        """Raise StaleAccess if any access has changed since `renew`."""
        if AccessRevision.current() != self._revision:
            raise StaleAccess

    def access(self, secret: str) -> Access | None:
        """Return the access of a key, or None if it is not valid."""
        digest = hashlib.sha256(secret.encode(errors="replace")).digest()
        access = self._accesses.get(digest)
        if access is None:
            access = Access.from_key(secret)
            if access is not None:
                self._accesses[digest] = access
        elif access.key:
            if not access.key.is_usable:  # expiry changes no row, and so no revision
                return None
            access.key.record_use()
        return access

    def opens(self, access: Access, instance: Instance) -> bool:
        """Return whether this access covers the instance by the database as of `renew`."""
        if access.key is None or access.is_for_all:
            return access.opens(instance)
        pair = (access.key.pk, instance.pk)
        if pair not in self._opened and access.opens(instance):
            self._opened.add(pair)
        return pair in self._opened
