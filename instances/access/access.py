"""Access of keys: the instances that a key opens, and the scopes that it has there. Cookies give no access.

The one way from a staff user's session to a socket is a token that a page of the console mints; see `staff_session`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from instances.access import staff_session
from instances.access.minted_tokens import MintedToken
from instances.access.rights import LISTEN, RIGHTS
from instances.access.staff_session import StaffSession
from instances.crypto import digest, digests, is_same
from instances.models import ApiKey, Instance
from instances.unreadable import M, readable

ALL_SCOPES = frozenset(RIGHTS)

#: Characters of a digest that a minted token carries: enough to distinguish keys.
DIGEST_PREFIX = 16


@dataclass(frozen=True)
class Access:
    """The instances and scopes of one valid key; read for every join and request, unless an `AccessCache` has it."""

    scopes: frozenset[str]
    #: True for the global key, for an ApiKey of all instances, and for a session, and its tokens, of all instances.
    is_for_all: bool = False
    is_global: bool = False
    #: Digests of an instance's own token, which opens that instance and any other with the same token.
    token_digests: tuple[str, ...] = ()
    key: ApiKey | None = field(default=None, repr=False)
    #: The session of a staff user; it is only ever the minter of a token.
    session: StaffSession | None = None
    #: The one instance that a minted token opens, for as long as its minter opens it. None: all that its minter opens.
    instance_id: UUID | None = None
    minter: Access | None = None

    @property
    def expires_at(self) -> datetime | None:
        """The time when the key or session expires.

        A minted token's own expiry is left out: it bounds joining, not the socket.
        """
        if self.minter:
            return self.minter.expires_at
        if self.session:
            return self.session.expires_at
        return self.key.expires_at if self.key else None

    @property
    def actor(self) -> str:
        """A description of the key for records of manual actions; it holds no part of the key."""
        if self.minter:
            return f"a token minted by {self.minter.actor}"
        if self.is_global:
            return "the global key"
        if self.session:
            return self.session.user.get_username()
        return f"the API key {self.key.name}" if self.key else "the instance's own token"

    @property
    def staff_user_id(self) -> int | None:
        """The id of the staff user whose session minted this; None for what a key opens."""
        session = self.minter.session if self.minter else self.session
        return session.user.pk if session else None

    def opens(self, instance: Instance) -> bool:
        """Return whether this access covers the instance."""
        if self.minter:
            is_covered = self.is_for_all or instance.pk == self.instance_id
            return is_covered and self.minter.opens(instance)
        if self.is_for_all:
            return True
        if self.session:
            return self.session.opens(instance)
        if self.key:
            return self.key.opens(instance)
        return instance.token_digest in self.token_digests

    def may(self, scope: str) -> bool:
        """Return whether this access has the scope."""
        return scope in self.scopes

    def digests_beyond(self) -> frozenset[str]:
        """Return the digests of those tokens of its instances that open more than this access does.

        The operator may give an instance the token of another one, or a key; then it is not for this access to read.
        """
        if self.key is None:  # it holds the token itself, or is the global key
            return frozenset()
        beyond = {*digests(settings.AUTHENTICATION_API_KEY)}
        beyond.update(
            ApiKey.objects.filter(digest__in=Instance.objects.values("token_digest")).values_list("digest", flat=True)
        )
        if not self.is_for_all:
            own = self.key.instances.all()
            others = Instance.objects.filter(token_digest__in=own.values("token_digest")).exclude(
                pk__in=own.values("pk")
            )
            beyond.update(others.values_list("token_digest", flat=True))
        return frozenset(beyond)

    def refreshed(self) -> Access | None:
        """Return this access as the database has it now.

        None if its key was revoked or has expired, if its session has ended, or if its minter has lost one of the
        token's scopes.
        """
        if self.minter:
            minter = self.minter.refreshed()
            return replace(self, minter=minter) if minter and self._is_within(minter) else None
        if self.session:
            session = self.session.refreshed()
            return self._from_session(session) if session else None
        if self.key is None:
            return self
        key = _first_readable(ApiKey.objects.usable().filter(pk=self.key.pk))
        return self._from_api_key(key) if key else None

    def _is_within(self, minter: Access) -> bool:
        """Return whether a minted token has no more than this minter."""
        return self.scopes <= minter.scopes and (minter.is_for_all or not self.is_for_all)

    @classmethod
    def _from_session(cls, session: StaffSession) -> Access:
        return cls(session.scopes, is_for_all=session.is_for_all, session=session)

    @classmethod
    def _from_api_key(cls, key: ApiKey) -> Access:
        return cls(frozenset(key.scopes), is_for_all=key.all_instances, key=key)

    @classmethod
    def from_key(cls, secret: str) -> Access | None:
        """Return the access of a key, or None if it is not valid."""
        return cls.from_keys([secret]).get(secret)

    @classmethod
    def from_keys(cls, secrets: Iterable[str]) -> dict[str, Access]:
        """Return the accesses of these keys, by key; keys that are not valid are left out."""
        # an instance's token may be stored empty: an empty key is never valid
        requested = {secret for secret in secrets if secret}
        found = {
            secret: cls._from_global_key() for secret in requested if is_same(secret, settings.AUTHENTICATION_API_KEY)
        }
        candidates = {secret: tuple(digests(_replace_surrogates(secret))) for secret in requested - found.keys()}
        keys = cls._keys_by_digest(candidates.values())
        for secret, key_digests in candidates.items():
            if key := next((keys[key_digest] for key_digest in key_digests if key_digest in keys), None):
                key.record_use()
                found[secret] = cls._from_api_key(key)
        others = {secret: key_digests for secret, key_digests in candidates.items() if secret not in found}
        tokens = cls._known_tokens(others.values())
        return found | {
            secret: cls(ALL_SCOPES, token_digests=token_digests)
            for secret, token_digests in others.items()
            if not tokens.isdisjoint(token_digests)
        }

    @classmethod
    def _from_global_key(cls) -> Access:
        return cls(ALL_SCOPES, is_for_all=True, is_global=True)

    @staticmethod
    def _keys_by_digest(candidates: Iterable[tuple[str, ...]]) -> dict[str, ApiKey]:
        wanted = [key_digest for key_digests in candidates for key_digest in key_digests]
        # a key whose row cannot be read opens nothing
        return (
            {key.digest: key for key in readable(ApiKey.objects.usable().filter(digest__in=wanted))} if wanted else {}
        )

    @staticmethod
    def _known_tokens(candidates: Iterable[tuple[str, ...]]) -> set[str]:
        wanted = [token_digest for token_digests in candidates for token_digest in token_digests]
        tokens = Instance.objects.filter(token_digest__in=wanted).values_list("token_digest", flat=True)
        return set(tokens.distinct()) if wanted else set()

    def mint(self, instance: Instance, scopes: Iterable[str], lifetime: timedelta) -> MintedToken:
        """Return a token for pages. Raises ValueError for the access of a minted token.

        The caller has checked that this access opens the instance and has the scopes.
        """
        return MintedToken(instance.pk, frozenset(scopes), self._minter_reference(instance), timezone.now() + lifetime)

    def _minter_reference(self, instance: Instance) -> str:
        """Return the text by which a minted token names the key that it depends on; see `_from_minter_reference`."""
        if self.key:
            return f"key:{self.key.pk}"
        if self.is_global:
            return f"global:{digest(settings.AUTHENTICATION_API_KEY)[:DIGEST_PREFIX]}"
        if self.token_digests:
            return f"token:{instance.token_digest[:DIGEST_PREFIX]}"
        raise ValueError("Only a key mints tokens")

    @classmethod
    def _from_minter_reference(cls, reference: str, instance: Instance | None) -> Access | None:
        kind, _, value = reference.partition(":")
        if kind == staff_session.KIND:
            session = StaffSession.from_reference(value)
            return cls._from_session(session) if session else None
        if instance is None:
            return None
        if kind == "key":
            key = _first_readable(ApiKey.objects.usable().filter(pk=value))
            return cls._from_api_key(key) if key else None
        if kind == "global":
            is_same_key = any(each.startswith(value) for each in digests(settings.AUTHENTICATION_API_KEY))
            return cls._from_global_key() if is_same_key else None
        is_same_token = instance.token_digest.startswith(value)
        return cls(ALL_SCOPES, token_digests=(instance.token_digest,)) if is_same_token else None

    @classmethod
    def from_minted_token(cls, token: str) -> Access | None:
        """Return the access of a minted token; None if it is forged or expired, or if its minter lost access."""
        minted = MintedToken.read(token)
        if minted is None:
            return None
        instance = _first_readable(Instance.objects.filter(pk=minted.instance_id)) if minted.instance_id else None
        if minted.instance_id and instance is None:
            return None
        minter = cls._from_minter_reference(minted.minter, instance)
        if minter is None:
            return None
        access = cls(minted.scopes, is_for_all=instance is None, instance_id=minted.instance_id, minter=minter)
        is_open = instance is None or minter.opens(instance)
        return access if is_open and access._is_within(minter) else None


#: The access that a socket joined with, and the id and name of its instance at that time; None and None for `/`.
ListenerAccess = tuple[Access, UUID | None, str | None]


def still_authorized(sockets: Iterable[ListenerAccess]) -> set[ListenerAccess]:
    """Return the sockets that may still listen, according to the current database.

    A socket of an instance that was renamed since may not.
    """
    checked = set(sockets)
    refreshed = {access: access.refreshed() for access in {access for access, _, _ in checked}}
    ids = {instance_id for _, instance_id, _ in checked if instance_id}
    rows = readable(Instance.objects.only("name", "token_digest").filter(pk__in=ids))
    instances = {instance.pk: instance for instance in rows}

    def is_authorized(access: Access, instance_id: UUID | None, name: str | None) -> bool:
        current = refreshed[access]
        if current is None or not current.may(LISTEN):
            return False
        if instance_id is None:
            return current.is_for_all
        instance = instances.get(instance_id)
        return instance is not None and instance.name == name and current.opens(instance)

    return {socket for socket in checked if is_authorized(*socket)}


def _first_readable(rows: QuerySet[M]) -> M | None:
    return next(iter(readable(rows, 1)), None)


def _replace_surrogates(secret: str) -> str:
    return secret.encode(errors="replace").decode()
