"""Short-lived tokens for pages: signed, not stored, and valid only while the key or session that minted them is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from django.core import signing
from django.db.models import TextChoices
from django.utils import timezone

from instances.access import rights

#: A salt of its own: nothing else that this server signs is valid as a token.
SALT = "evoapi.minted-token"


class Mintable(TextChoices):
    """Scopes that a page may have."""

    LISTEN = rights.LISTEN
    READ = rights.READ
    SEND = rights.SEND


@dataclass(frozen=True)
class MintedToken:
    """The payload of a token. It is signed, not encrypted: the page that holds the token can read it."""

    #: None for all instances, which only a session of a staff user mints.
    instance_id: UUID | None
    scopes: frozenset[str]
    #: A reference to the key or session that the token depends on, as `Access` and `StaffSession` write it.
    minter: str
    #: The end of the time in which the token lets a client join.
    expires_at: datetime

    @property
    def text(self) -> str:
        """The token itself."""
        payload = {
            "instance": self.instance_id.hex if self.instance_id else None,
            "scopes": sorted(self.scopes),
            "minter": self.minter,
            "expires": self.expires_at.timestamp(),
        }
        return signing.dumps(payload, salt=SALT)

    @classmethod
    def read(cls, text: str) -> MintedToken | None:
        """Return the payload of a token, or None if it is forged or has expired."""
        try:
            payload = signing.loads(text.encode(errors="replace").decode(), salt=SALT)
        except signing.BadSignature:
            return None
        expires_at = datetime.fromtimestamp(payload["expires"], UTC)
        if expires_at <= timezone.now():
            return None
        instance_id = UUID(payload["instance"]) if payload["instance"] else None
        return cls(instance_id, frozenset(payload["scopes"]), payload["minter"], expires_at)
