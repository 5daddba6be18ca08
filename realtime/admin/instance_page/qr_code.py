"""The QR code that an engine has published for an instance, as a picture."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any, NamedTuple

import segno
from django.utils import timezone

from instances.events import EventType
from instances.models import ConnectionState, Instance
from realtime.admin.instance_page.recent import recent_events

#: Characters of a picture in base64, and of the text of a code that is drawn here.
MAX_PICTURE, MAX_CODE = 200_000, 512
#: Characters of a pairing code.
MAX_PAIRING_CODE = 32
#: Seconds after which a code is probably no longer valid, and after which it is not shown.
FRESH, SHOWN = 60, 300

#: The first bytes of the pictures that are shown, by type.
_SIGNATURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


class QrCode(NamedTuple):
    """A QR code, a pairing code or both, or what an engine says instead."""

    seq: int
    at: datetime
    #: A data URL; empty if there is none.
    picture: str = ""
    pairing_code: str = ""
    #: A sentence of the engine, such as that it has given up.
    message: str = ""

    @property
    def age(self) -> float:
        """Seconds since it was published."""
        return max((timezone.now() - self.at).total_seconds(), 0)

    @property
    def is_fresh(self) -> bool:
        return self.age <= FRESH


def waits_for_code(instance: Instance) -> bool:
    """Return whether an engine may publish codes for the instance: it is neither open nor logged out."""
    return instance.connection_state != ConnectionState.OPEN and instance.logged_out_at is None


def current_code(instance: Instance) -> QrCode | None:
    """Return the code that was published last; None if there is none, or only one from before."""
    if not waits_for_code(instance):
        return None
    types = (EventType.QRCODE_UPDATED, EventType.CONNECTION_UPDATE)
    recent = recent_events(instance, *types)
    found, update = (recent.get(each) for each in types)
    if found is None or not isinstance(found.data, dict):
        return None
    if (timezone.now() - found.at).total_seconds() > SHOWN:
        return None
    if update and update.seq > found.seq and _state(update.data) != ConnectionState.CONNECTING:
        return None  # of an attempt that has ended
    code = found.data.get("qrcode")
    if not isinstance(code, dict):
        return QrCode(found.seq, found.at, message=_text(found.data, "message", 300))
    pairing_code = _text(code, "pairingCode", MAX_PAIRING_CODE)
    return QrCode(found.seq, found.at, _picture(code), pairing_code)


def _state(data: Any) -> Any:
    return data.get("state") if isinstance(data, dict) else None


def _picture(code: dict[str, Any]) -> str:
    return checked_picture(code.get("base64")) or drawn(_text(code, "code", MAX_CODE))


def checked_picture(url: Any) -> str:
    """Return the data URL of a PNG or JPEG picture; empty for anything else."""
    if not isinstance(url, str) or len(url) > MAX_PICTURE:
        return ""
    head, separator, text = url.partition(",")
    if separator and head not in [f"data:{kind};base64" for kind in _SIGNATURES]:
        return ""
    try:
        data = base64.b64decode(text if separator else url, validate=True)
    except (binascii.Error, ValueError):
        return ""
    # the type by the bytes, whatever the URL says
    for kind, signature in _SIGNATURES.items():
        if data.startswith(signature):
            return f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return ""


def drawn(code: str) -> str:
    """Return the data URL of a picture of the text of a code; empty without one."""
    if not code:
        return ""
    # with a given mask: trying all of them takes five times as long
    symbol = segno.make_qr(code, error="l", boost_error=False, mask=0)
    return symbol.svg_data_uri(scale=4, border=4, dark="#000", light="#fff", omitsize=True)


def _text(holder: dict[str, Any], name: str, limit: int) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) and len(value) <= limit else ""
