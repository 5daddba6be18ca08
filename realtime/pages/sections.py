"""The sections of the pages beside the admin: which of them a staff user may open."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from instances.access.rights import LISTEN, has_scope
from instances.access.staff import sees_content


def opens_console(user: Any) -> bool:
    """Return whether a user may open the console, be it without the contents of events."""
    return user.has_perm("realtime.view_event") or has_scope(user, LISTEN)


def opens_inbox(user: Any) -> bool:
    """Return whether a user may have inboxes: they show bodies of events."""
    return sees_content(user)


class OpenSections:
    """The sections that a user may open, for templates, of which most do not ask."""

    def __init__(self, user: Any) -> None:
        self._user = user

    @property
    def console(self) -> bool:
        return opens_console(self._user)

    @property
    def inbox(self) -> bool:
        return opens_inbox(self._user)


def open_sections(request: HttpRequest) -> dict[str, OpenSections]:
    """Add `open_sections` to the context of templates: a context processor."""
    return {"open_sections": OpenSections(request.user)}
