"""Members that the envelope of an event may have beside Evolution API's usual ones; they stand first in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instances.events.types import EventType

#: The extra members of `messages.set`, in Evolution API's order: whether this part of the history is the last one, and
#: how much of it has come, in percent.
IS_LATEST, PROGRESS = "isLatest", "progress"
EXTRA_MEMBERS = (IS_LATEST, PROGRESS)

#: The type that alone has them, and the highest `progress`.
EXTRA_TYPE = EventType.MESSAGES_SET
MAX_PROGRESS = 100

NOT_OF_TYPE = f"extra is for {EXTRA_TYPE.value} alone"


def check_extra(event_type: EventType, extra: Mapping[str, Any] | None) -> dict[str, bool | int]:
    """Return the extra members of an envelope in their order, without those that are None, which are unknown.

    Raises ValueError for members that there are not, values of other types, and an event type without any.
    """
    if not extra:
        return {}
    if event_type is not EXTRA_TYPE:
        raise ValueError(NOT_OF_TYPE)
    for name, value in extra.items():
        if name not in EXTRA_MEMBERS:
            raise ValueError(f"extra has {' and '.join(EXTRA_MEMBERS)} alone, and no {name!r}")
        if name == IS_LATEST and not isinstance(value, bool | None):
            raise ValueError("extra.isLatest is not of a type(s) boolean")
        if name == PROGRESS and (isinstance(value, bool) or not isinstance(value, int | None)):
            raise ValueError("extra.progress is not of a type(s) integer")
        if name == PROGRESS and value is not None and not 0 <= value <= MAX_PROGRESS:
            raise ValueError(f"extra.progress is not from 0 to {MAX_PROGRESS}")
    return {name: extra[name] for name in EXTRA_MEMBERS if extra.get(name) is not None}
