"""The table of rights: the scopes of keys, and the permissions of staff users that amount to them.

Nobody grants, reveals or resends what he does not have himself. A key has scopes; a staff user has a scope where he
has all of Django's permissions that its row names, for all instances. REST, sockets and minted tokens check scopes
(`instances.access.access`), the admin checks both. docs/rights.md is printed by `python -m instances.access.rights`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

LISTEN, READ, SEND, PUBLISH, MANAGE = "listen", "read", "send", "publish", "manage"


@dataclass(frozen=True)
class Right:
    """A row of the table: a scope."""

    #: The things that a key with this scope may do, as a continuation of "may".
    meaning: str
    #: Django's permissions by which a staff user has as much, all of them.
    permissions: tuple[str, ...]
    #: A permission that does as well as those.
    or_else: str = ""
    #: Scopes that come with it.
    includes: tuple[str, ...] = ()


RIGHTS = {
    LISTEN: Right(
        "receive events over Socket.IO, and mint tokens for pages to do so",
        ("realtime.view_event",),
        or_else="instances.change_subscription",  # by which he can have the events sent to himself
    ),
    READ: Right(
        "read instances, their settings and their stored data",
        (
            *("instances.view_instance", "instances.view_subscription", "instances.view_message"),
            *("instances.view_contact", "instances.view_chat", "realtime.view_event", "realtime.view_delivery"),
        ),
    ),
    SEND: Right("send messages, mark chats as read and show that it types", ("instances.add_message",)),
    PUBLISH: Right("post inbound messages to the Evolution channel, and publish events", ("realtime.add_event",)),
    MANAGE: Right(
        "change settings, templates, groups and profiles, delete, read tokens and rotate them",
        (
            *("instances.change_instance", "instances.delete_instance", "instances.add_subscription"),
            *("instances.change_subscription", "instances.delete_subscription", "realtime.change_delivery"),
        ),
        includes=(LISTEN, READ, SEND, PUBLISH),  # a token that it reads has them all
    ),
}


class Action(Enum):
    """Actions in the admin that reveal or send something: a description, the scopes and the permissions they need."""

    SHOW_TOKEN = "show an instance's token, or choose that of a new one", (MANAGE,), ()
    SHOW_CREDENTIALS = "show what the path and query of an endpoint's URL hold", (MANAGE,), ()
    ADD_WEBHOOK = (
        "add an endpoint, to which events are sent",
        (LISTEN,),
        ("instances.add_subscription",),
    )
    ROTATE_SECRET = "rotate an endpoint's signing secret, which shows the new one", (MANAGE,), ()
    SEND_TEST = "send a test event to an endpoint", (), ("instances.change_subscription",)
    RESEND = "send deliveries again to their own endpoints", (), ("realtime.change_delivery",)
    RESEND_ELSEWHERE = (
        "send deliveries again to another URL",
        (LISTEN,),
        ("realtime.change_delivery", "realtime.view_delivery"),
    )

    def __init__(self, description: str, scopes: tuple[str, ...], permissions: tuple[str, ...]) -> None:
        self.description = description
        self.scopes = scopes
        self.permissions = permissions


def has_scope(user: Any, scope: str) -> bool:
    """Return whether a user of the admin has a scope, with those that it includes."""
    right = RIGHTS[scope]
    is_own = user.has_perms(right.permissions) or bool(right.or_else and user.has_perm(right.or_else))
    return is_own and all(has_scope(user, included) for included in right.includes)


def scopes_of(user: Any) -> frozenset[str]:
    """Return the scopes that a user of the admin has."""
    return frozenset(scope for scope in RIGHTS if has_scope(user, scope))


def may(user: Any, action: Action) -> bool:
    """Return whether a user of the admin may do this."""
    return user.has_perms(action.permissions) and all(has_scope(user, scope) for scope in action.scopes)


def document() -> str:
    """Return docs/rights.md."""
    lines = [_INTRODUCTION, "| Scope | A key with it may | A staff user has it with |", "|---|---|---|"]
    lines += [f"| `{scope}` | {right.meaning} | {_needs(right)} |" for scope, right in RIGHTS.items()]
    lines += [_ACTIONS, "| To | needs |", "|---|---|"]
    for action in Action:
        needs = [*(f"`{scope}`" for scope in action.scopes), _codenames(action.permissions)]
        lines.append(f"| {action.description} | {', '.join(filter(None, needs))} |")
    return "\n".join([*lines, _USERS])


def _needs(right: Right) -> str:
    needs = _codenames(right.permissions) + (f", or {_codenames([right.or_else])}" if right.or_else else "")
    return needs + (", and all that the others need" if right.includes else "")


def _codenames(permissions: Iterable[str]) -> str:
    """Return permissions without their application, as the admin's tables show them."""
    return ", ".join(f"`{name.partition('.')[2]}`" for name in permissions)


_INTRODUCTION = """\
# Rights

Nobody grants, reveals or resends what he does not have himself. What a key may do is said by its scopes, what a staff
user of the admin may do by Django's permissions. This table pairs them: a staff user issues keys with the scopes that
he has, and changes keys whose scopes he has; others he can only revoke. Superusers have everything.

This page is made from `instances/access/rights.py` by `make rights`.

## Scopes
"""

_ACTIONS = """
`manage` includes the others, because it reads the instance's token, which may do everything there; for the same reason
rotate the tokens of its instances when a key with it is revoked. Tokens of pages have `listen`, `read` and `send` at
most, and no scope that their minter lacks. An instance's own token and the global key have all scopes.

A key outlives the user who issued it: its history in the admin says who that was, so that it can be revoked.

## In the admin

Besides the permission for the page itself, by the scopes and permissions of the user:
"""

_USERS = """\

A user who lacks `manage` sees URLs of endpoints with `********` in place of their path and of the values in their
query. He can add an instance, whose token is then shown to nobody: those who have `manage` can show it.

## Users and groups

A user who is no superuser gives other users, and groups, the permissions that he has himself, and changes or deletes
only users and groups that have no others; a superuser is changed by superusers.
"""

if __name__ == "__main__":
    print(document(), end="")
