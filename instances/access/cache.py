"""What the database said of keys, for as long as nobody's access has changed."""

from __future__ import annotations

import hashlib
from uuid import UUID

from instances.access.access import Access
from instances.models import AccessRevision, Instance

#: Keys, and pairs of key and instance, that are remembered; then all are forgotten and asked for again.
MAX_CACHED = 10_000


class StaleAccess(Exception):
    """Raised when access has changed since it was looked at; another attempt looks at it anew."""


class AccessCache:
    """Remembers who was let in, never who was not: what is unknown here is asked of the database.

    `renew` and `check` enclose what relies on it. It belongs to one thread.
    """

    def __init__(self) -> None:
        self._revision: int | None = None
        self._accesses: dict[bytes, Access] = {}
        self._opened: set[tuple[int, UUID]] = set()

    def renew(self) -> None:
        """Forget everything if anybody's access has changed."""
        revision = AccessRevision.current()
        if revision != self._revision or len(self._accesses) + len(self._opened) > MAX_CACHED:
            self._revision = revision
            self._accesses.clear()
            self._opened.clear()

    def check(self) -> None:
        """Raises StaleAccess if anybody's access has changed since `renew`."""
        if AccessRevision.current() != self._revision:
            raise StaleAccess

    def access(self, secret: str) -> Access | None:
        """The access that this key gives now, if it is one."""
        mark = hashlib.sha256(secret.encode(errors="replace")).digest()
        access = self._accesses.get(mark)
        if access is None:
            access = Access.from_key(secret)
            if access is not None:
                self._accesses[mark] = access
        elif access.key:
            if not access.key.is_usable:  # time has run out: no change of anything
                return None
            access.key.record_use()
        return access

    def opens(self, access: Access, instance: Instance) -> bool:
        """Whether this access is one to this instance, as it is in the database now."""
        if access.key is None or access.is_for_all:
            return access.opens(instance)
        pair = (access.key.pk, instance.pk)
        if pair not in self._opened and access.opens(instance):
            self._opened.add(pair)
        return pair in self._opened
