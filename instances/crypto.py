"""Digests, encryption and masking of secrets, independent of the database."""

from __future__ import annotations

import re
from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

#: The text that stands for a secret.
MASK = "********"

#: Clients put their key into the query by mistake.
_KEY_IN_QUERY = re.compile(r"((?:apikey|token)=)[^&\s]*", re.IGNORECASE)

#: URLs of databases, brokers and webhooks have a password before the host.
_PASSWORD_IN_URL = re.compile(r"(://[^/?#\s:@]{0,256}:)[^/?#\s@]{1,256}@")


class UnreadableSecret(ValueError):
    """Raised for a secret that was encrypted under none of ENCRYPTION_KEYS; the text says what to do."""

    def __init__(self) -> None:
        cause = "It was encrypted under a key that is not in ENCRYPTION_KEYS"
        super().__init__(f"{cause}. Add that key behind the others, or set the secret anew")


class Secret:
    """A string that is returned by `reveal()` alone: it prints, logs and renders as asterisks."""

    __slots__ = ("_cipher", "_plain")

    def __init__(self, plain: str | None = None, *, cipher: str | None = None) -> None:
        self._plain = plain
        self._cipher = cipher

    def reveal(self) -> str:
        """Return the string. Raises UnreadableSecret."""
        if self._plain is None:
            self._plain = decrypt(self._cipher or "")
        return self._plain

    @property
    def cipher(self) -> str:
        """The string as a Fernet token."""
        if self._cipher is None:
            self._cipher = encrypt(self._plain or "")
        return self._cipher

    def __str__(self) -> str:
        return MASK

    __repr__ = __str__


@cache
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(plain: str) -> str:
    """Return a Fernet token (https://github.com/fernet/spec) under the first of ENCRYPTION_KEYS."""
    return _fernet(tuple(settings.ENCRYPTION_KEYS)).encrypt(plain.encode()).decode()


def decrypt(cipher: str) -> str:
    """Return the string in a Fernet token. Raises UnreadableSecret."""
    try:
        return _fernet(tuple(settings.ENCRYPTION_KEYS)).decrypt(cipher.encode()).decode()
    except InvalidToken:
        raise UnreadableSecret from None


def is_current(cipher: str) -> bool:
    """Return whether a Fernet token was made under the first of ENCRYPTION_KEYS."""
    try:
        _fernet(tuple(settings.ENCRYPTION_KEYS[:1])).decrypt(cipher.encode())
    except InvalidToken:
        return False
    return True


def digest(secret: str, key: str | None = None) -> str:
    """Return the HMAC-SHA-256 of a random secret, keyed with SECRET_KEY, in 64 hexadecimal digits."""
    return salted_hmac("evoapi.secret", secret, secret=key or settings.SECRET_KEY, algorithm="sha256").hexdigest()


def digests(secret: str) -> list[str]:
    """Return every digest under which a secret may be stored: by SECRET_KEY and by SECRET_KEY_FALLBACKS."""
    return [digest(secret, key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


def is_same(secret: str, other: str) -> bool:
    """Return whether both are equal, in constant time; `secret` may hold any characters that a client sends."""
    return constant_time_compare(secret.encode(errors="replace"), other.encode())


def mask_keys(text: str) -> str:
    """Replace the keys in queries and the passwords in URLs by asterisks."""
    return _PASSWORD_IN_URL.sub(rf"\1{MASK}@", _KEY_IN_QUERY.sub(rf"\1{MASK}", text))
