"""Access to the console: who may open it, what each may see there, and which instances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse

from instances.access.rights import LISTEN, SEND, Action, has_scope, may
from instances.access.staff import sees_all_instances, sees_content, visible_instances
from instances.models import Instance
from realtime.pages.sections import opens_console
from realtime.pages.staff import staff_page


@dataclass(frozen=True)
class ConsoleRights:
    """The rights of a staff user in the console."""

    sees_all: bool
    #: True if he may read bodies of deliveries and responses.
    sees_content: bool
    #: True if he may read envelopes: those that sockets receive, and those of earlier events.
    may_listen: bool
    may_send: bool
    may_resend: bool
    sees_deliveries: bool
    #: True if he may see which endpoints there are, and why they did not receive an event.
    sees_endpoints: bool

    @classmethod
    def of(cls, user: Any) -> ConsoleRights:
        reads = sees_content(user)
        return cls(
            sees_all=sees_all_instances(user),
            sees_content=reads and user.has_perm("realtime.view_event"),
            may_listen=reads and has_scope(user, LISTEN),
            may_send=reads and has_scope(user, SEND),
            may_resend=may(user, Action.RESEND),
            sees_deliveries=user.has_perm("realtime.view_delivery"),
            sees_endpoints=user.has_perms(("realtime.view_delivery", "instances.view_subscription")),
        )


def console_view(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Have a view take the user's rights behind the request; others than staff log in, those without rights get 403."""

    @wraps(view)
    def with_rights(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not opens_console(request.user):
            raise PermissionDenied
        return view(request, ConsoleRights.of(request.user), *args, **kwargs)

    return staff_page(with_rights)


def visible_instance(user: Any, name: str) -> Instance:
    """Return an instance that the user may see. Raises Http404, whether it exists or not."""
    found = None if "\x00" in name else visible_instances(user).filter(name=name).first()
    if found is None:
        raise Http404
    return found
