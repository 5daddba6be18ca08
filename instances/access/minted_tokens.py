"""Tokens that a page may hold: short-lived, stored nowhere, and good only while what minted them is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from django.core import signing
from django.db.models import TextChoices
from django.utils import timezone

#: A salt of its own: nothing else that this server signs passes for a token.
SALT = "evoapi.minted-token"


class Mintable(TextChoices):
    """The scopes that a page can be trusted with."""

    LISTEN = "listen"
    READ = "read"
    SEND = "send"


@dataclass(frozen=True)
class MintedToken:
    """What a token says. It is signed, not encrypted: whoever holds it can read this."""

    instance_id: UUID
    scopes: frozenset[str]
    #: What it lives and dies with, as `Access` writes it.
    minter: str
    #: Until when it lets somebody join.
    expires_at: datetime

    @property
    def text(self) -> str:
        told = {
            "instance": self.instance_id.hex,
            "scopes": sorted(self.scopes),
            "minter": self.minter,
            "expires": self.expires_at.timestamp(),
        }
        return signing.dumps(told, salt=SALT)

    @classmethod
    def read(cls, text: str) -> MintedToken | None:
        """What this token says, if it is one of ours and its time is not over."""
        try:
            told = signing.loads(text.encode(errors="replace").decode(), salt=SALT)
        except signing.BadSignature:
            return None
        expires_at = datetime.fromtimestamp(told["expires"], UTC)
        if expires_at <= timezone.now():
            return None
        return cls(UUID(told["instance"]), frozenset(told["scopes"]), told["minter"], expires_at)
