"""What a key opens: its own instances, and there what its scopes say. No cookie opens anything here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from instances.access.minted_tokens import MintedToken
from instances.crypto import digest, digests, is_same
from instances.models import ApiKey, Instance

LISTEN, READ, SEND, PUBLISH, MANAGE = ApiKey.Scope.values
ALL_SCOPES = frozenset(ApiKey.Scope.values)

#: How much of a digest a minted token carries: enough to tell keys apart.
DIGEST_PREFIX = 16


@dataclass(frozen=True)
class Access:
    """What one valid key opens. Read anew for every join and request, but by `AccessCache`."""

    scopes: frozenset[str]
    #: The global key's, or an ApiKey's that is for all instances.
    is_for_all: bool = False
    is_global: bool = False
    #: An instance's own token opens that instance (and its namesakes in token).
    token_digests: tuple[str, ...] = ()
    key: ApiKey | None = field(default=None, repr=False)
    #: A minted token's: it opens this one instance, for as long as what minted it does.
    instance_id: UUID | None = None
    minter: Access | None = None

    @property
    def expires_at(self) -> datetime | None:
        """When it ends by itself. A minted token's own time does not count: it bounds joining, not the socket."""
        key = self.minter.key if self.minter else self.key
        return key.expires_at if key else None

    @property
    def actor(self) -> str:
        """For the record of what somebody had done by hand; no part of the key."""
        if self.minter:
            return f"a token minted by {self.minter.actor}"
        if self.is_global:
            return "the global key"
        return f"the API key {self.key.name}" if self.key else "the instance's own token"

    def opens(self, instance: Instance) -> bool:
        if self.minter:
            return instance.pk == self.instance_id and self.minter.opens(instance)
        if self.is_for_all:
            return True
        if self.key:
            return self.key.opens(instance)
        return instance.token_digest in self.token_digests

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def refreshed(self) -> Access | None:
        """The same access as of now, or None once its key is revoked or expired, or has lost what it minted."""
        if self.minter:
            minter = self.minter.refreshed()
            return replace(self, minter=minter) if minter and self.scopes <= minter.scopes else None
        if self.key is None:
            return self
        key = ApiKey.objects.usable().filter(pk=self.key.pk).first()
        return self._from_api_key(key) if key else None

    @classmethod
    def _from_api_key(cls, key: ApiKey) -> Access:
        return cls(frozenset(key.scopes), is_for_all=key.all_instances, key=key)

    @classmethod
    def from_key(cls, secret: str) -> Access | None:
        """The access that this key gives, if it is one."""
        return cls.from_keys([secret]).get(secret)

    @classmethod
    def from_keys(cls, secrets: Iterable[str]) -> dict[str, Access]:
        """The accesses that these keys give, by key; what is none is left out."""
        asked = {secret for secret in secrets if secret}  # whatever is stored: an empty text is no key
        found = {one: cls._from_global_key() for one in asked if is_same(one, settings.AUTHENTICATION_API_KEY)}
        marks = {secret: tuple(digests(_clean(secret))) for secret in asked - found.keys()}
        keys = cls._keys_by_digest(marks.values())
        for secret, its in marks.items():
            if key := next((keys[mark] for mark in its if mark in keys), None):
                key.record_use()
                found[secret] = cls._from_api_key(key)
        others = {secret: its for secret, its in marks.items() if secret not in found}
        tokens = cls._known_tokens(others.values())
        return found | {
            secret: cls(ALL_SCOPES, token_digests=its) for secret, its in others.items() if not tokens.isdisjoint(its)
        }

    @classmethod
    def _from_global_key(cls) -> Access:
        return cls(ALL_SCOPES, is_for_all=True, is_global=True)

    @staticmethod
    def _keys_by_digest(marks: Iterable[tuple[str, ...]]) -> dict[str, ApiKey]:
        wanted = [mark for its in marks for mark in its]
        return {key.digest: key for key in ApiKey.objects.usable().filter(digest__in=wanted)} if wanted else {}

    @staticmethod
    def _known_tokens(marks: Iterable[tuple[str, ...]]) -> set[str]:
        wanted = [mark for its in marks for mark in its]
        tokens = Instance.objects.filter(token_digest__in=wanted).values_list("token_digest", flat=True)
        return set(tokens.distinct()) if wanted else set()

    def mint(self, instance: Instance, scopes: Iterable[str], lifetime: timedelta) -> MintedToken:
        """A token for pages. The caller has seen to it that this access opens the instance and has the scopes."""
        return MintedToken(instance.pk, frozenset(scopes), self._minter_reference(instance), timezone.now() + lifetime)

    def _minter_reference(self, instance: Instance) -> str:
        """How a minted token names what it lives and dies with; `_from_minter_reference` reads it."""
        if self.key:
            return f"key:{self.key.pk}"
        if self.is_global:
            return f"global:{digest(settings.AUTHENTICATION_API_KEY)[:DIGEST_PREFIX]}"
        if self.token_digests:
            return f"token:{instance.token_digest[:DIGEST_PREFIX]}"
        raise ValueError("Only a key mints tokens")

    @classmethod
    def _from_minter_reference(cls, mark: str, instance: Instance) -> Access | None:
        kind, _, value = mark.partition(":")
        if kind == "key":
            key = ApiKey.objects.usable().filter(pk=value).first()
            return cls._from_api_key(key) if key else None
        if kind == "global":
            is_same_key = any(each.startswith(value) for each in digests(settings.AUTHENTICATION_API_KEY))
            return cls._from_global_key() if is_same_key else None
        is_same_token = instance.token_digest.startswith(value)
        return cls(ALL_SCOPES, token_digests=(instance.token_digest,)) if is_same_token else None

    @classmethod
    def from_minted_token(cls, token: str) -> Access | None:
        """The access that this minted token gives, if it is one, in time, and what minted it is still valid."""
        minted = MintedToken.read(token)
        instance = Instance.objects.filter(pk=minted.instance_id).first() if minted else None
        if minted is None or instance is None:
            return None
        minter = cls._from_minter_reference(minted.minter, instance)
        if minter is None or not minted.scopes <= minter.scopes or not minter.opens(instance):
            return None
        return cls(minted.scopes, instance_id=instance.pk, minter=minter)


#: What a socket joined with: its access, and the instance's id and name as they were; None and None for `/`.
ListenerAccess = tuple[Access, UUID | None, str | None]


def still_authorized(sockets: Iterable[ListenerAccess]) -> set[ListenerAccess]:
    """Those that the database, as it is now, still lets listen. An instance of another name is not what they joined."""
    asked = set(sockets)
    renewed = {access: access.refreshed() for access in {access for access, _, _ in asked}}
    ids = {instance_id for _, instance_id, _ in asked if instance_id}
    instances = Instance.objects.only("name", "token_digest").in_bulk(ids)

    def is_let(access: Access, instance_id: UUID | None, name: str | None) -> bool:
        now = renewed[access]
        if now is None or not now.may(LISTEN):
            return False
        if instance_id is None:
            return now.is_for_all
        instance = instances.get(instance_id)
        return instance is not None and instance.name == name and now.opens(instance)

    return {socket for socket in asked if is_let(*socket)}


def _clean(secret: str) -> str:
    return secret.encode(errors="replace").decode()
