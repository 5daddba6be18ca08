"""The secrets that sign an endpoint's deliveries: the newest, and after a rotation the one before it, for a while.

They are two of an endpoint's encrypted values: `signing`, a list with the newest first, and `signing_until`, the Unix
time from which the older one signs no more; without it both sign until the older one is dropped. Each signature asks
anew, so that the end is kept by processes that have run for days.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from instances.outbound.webhook_secrets import MAX_SECRETS

#: Seconds for which an older secret may go on signing, at most.
MAX_OVERLAP = 30 * 24 * 3600


def active_secrets(stored: Mapping[str, Any], now: float) -> list[str]:
    """Return the secrets that sign at this Unix time, the newest first, of an endpoint's encrypted values."""
    signing = list(stored.get("signing") or ())[:MAX_SECRETS]
    until = stored.get("signing_until")
    return signing[:1] if until is not None and now >= until else signing


def overlap_end(stored: Mapping[str, Any], now: float) -> datetime | None:
    """Return when the older of two secrets ends; None without one, and where it signs until it is dropped."""
    until = stored.get("signing_until")
    return datetime.fromtimestamp(until, UTC) if until is not None and len(active_secrets(stored, now)) > 1 else None


def rotated(stored: Mapping[str, Any], secret: str, overlap: float | None, now: float) -> dict[str, Any]:
    """Return the values to store when `secret` takes over.

    The one that is the newest so far signs as well for `overlap` seconds; None is until it is dropped.
    """
    return _values([secret, *active_secrets(stored, now)][:MAX_SECRETS], overlap, now)


def with_overlap(stored: Mapping[str, Any], overlap: float, now: float) -> dict[str, Any]:
    """Return the values to store when the older secret is to end in `overlap` seconds; 0 is at once."""
    return _values(active_secrets(stored, now), overlap, now)


def _values(signing: list[str], overlap: float | None, now: float) -> dict[str, Any]:
    if overlap is not None and overlap <= 0:
        signing = signing[:1]
    is_limited = overlap is not None and len(signing) > 1
    return {"signing": signing, "signing_until": round(now + overlap) if is_limited and overlap is not None else None}
