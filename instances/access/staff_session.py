"""Sessions of staff users, which mint tokens for the pages of the console."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from instances.access.minted_tokens import Mintable, MintedToken
from instances.access.rights import LISTEN, scopes_of
from instances.access.staff import sees_all_instances, sees_instance
from instances.crypto import UnreadableSecret, decrypt, encrypt
from instances.models import Instance

#: The kind of minter in tokens that a session has minted.
KIND = "session"

#: The time in which a token of a page lets it join; the page fetches another one to connect again.
LIFETIME = timedelta(minutes=5)


@dataclass(frozen=True)
class StaffSession:
    """The session of an active staff user, as the database had it when it was read."""

    key: str = field(repr=False)
    user: Any
    expires_at: datetime = field(compare=False)

    @classmethod
    def find(cls, key: str) -> StaffSession | None:
        """Return the session with this key, by its index.

        None if the user has logged out, if the session has expired or was begun with another password, or if the user
        is not active staff any more.
        """
        session = Session.objects.filter(pk=key, expire_date__gt=timezone.now()).first()
        data = session.get_decoded() if session else {}
        if session is None or data.get(BACKEND_SESSION_KEY) not in settings.AUTHENTICATION_BACKENDS:
            return None
        try:
            user = User.objects.filter(pk=data[SESSION_KEY], is_active=True, is_staff=True).first()
        except (KeyError, ValueError, ValidationError):
            return None
        if user is None or not _is_hash_of(user, data.get(HASH_SESSION_KEY, "")):
            return None
        return cls(key, user, session.expire_date)

    @classmethod
    def from_reference(cls, reference: str) -> StaffSession | None:
        """Return the session that a token names, None if it has ended; see `reference`."""
        try:
            return cls.find(decrypt(reference))
        except UnreadableSecret:
            return None

    @property
    def reference(self) -> str:
        """The text by which a token names the session: encrypted, as the page that holds it must not know the key."""
        return encrypt(self.key)

    def refreshed(self) -> StaffSession | None:
        """Return this session as the database has it now, None if it has ended."""
        current = self.find(self.key)
        return current if current == self else None

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that the user has, of those that pages may have."""
        return scopes_of(self.user) & frozenset(Mintable.values)

    @property
    def is_for_all(self) -> bool:
        """True if the user sees all instances."""
        return sees_all_instances(self.user)

    def opens(self, instance: Instance) -> bool:
        """Return whether the user sees the instance."""
        return sees_instance(self.user, instance.pk)


def _is_hash_of(user: User, session_hash: str) -> bool:
    """Return whether a session was begun with the password that the user has now."""
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return any(constant_time_compare(session_hash, each) for each in hashes)


def mint_for_session(request: HttpRequest, instance: Instance | None, scopes: Iterable[str] = (LISTEN,)) -> MintedToken:
    """Return a token for a page of the console: for the namespace of an instance or, for None, for `/`.

    It is good for joining during LIFETIME. What has joined with it is disconnected when the session ends, or the
    user loses one of the scopes, the instance, his permission or his account.

    Raises PermissionDenied, with the reason, if the user has not all of the scopes or does not see the instance or, for
    None, all instances.
    """
    session = StaffSession.find(request.session.session_key or "")
    if session is None or session.user != request.user:
        raise PermissionDenied("Log in as a staff user first")
    wanted = frozenset(scopes)
    if lacking := sorted(wanted - session.scopes):
        raise PermissionDenied(f"You may not {lacking[0]}: docs/rights.md says what that takes")
    if not (session.is_for_all if instance is None else session.opens(instance)):
        raise PermissionDenied("You do not see this instance" if instance else "You do not see all instances")
    expires_at = timezone.now() + LIFETIME
    return MintedToken(instance.pk if instance else None, wanted, f"{KIND}:{session.reference}", expires_at)
