"""The table of rights: the scopes of keys, the permissions of staff users that amount to them, and the roles of these.

Nobody grants, reveals or resends what he does not have himself. A key has scopes; a staff user has a scope where he
has all of Django's permissions that its row names, for the instances that he may see (`instances.access.staff`). REST,
sockets and minted tokens check scopes (`instances.access.access`), the admin and the console check both. docs/rights.md
is printed by `python -m instances.access.rights`.
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
    #: True if messages can be read by it, which a viewer may not, whatever his permissions are.
    reads_content: bool = False


RIGHTS = {
    LISTEN: Right(
        "receive events over Socket.IO, and mint tokens for pages to do so",
        ("realtime.view_event",),
        or_else="instances.change_subscription",  # by which he can have the events sent to himself
        reads_content=True,
    ),
    READ: Right(
        "read instances, their settings and their stored data",
        (
            *("instances.view_instance", "instances.view_subscription", "instances.view_message"),
            *("instances.view_contact", "instances.view_chat", "realtime.view_event", "realtime.view_delivery"),
        ),
        reads_content=True,
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
    ROTATE_TOKEN = "rotate an instance's token, which shows the new one", (MANAGE,), ()
    SHOW_CREDENTIALS = "show what the path and query of an endpoint's URL hold", (MANAGE,), ()
    ADD_WEBHOOK = (
        "add an endpoint, to which events are sent",
        (LISTEN,),
        ("instances.add_subscription",),
    )
    CHANGE_SUBSCRIPTION = (
        "change a subscription or endpoint, which may send its events elsewhere",
        (LISTEN,),
        ("instances.change_subscription",),
    )
    ROTATE_SECRET = "rotate an endpoint's signing secret, which shows the new one", (MANAGE,), ()
    SEND_TEST = "send a test event to an endpoint", (), ("instances.change_subscription",)
    RESEND = "send deliveries again to their own endpoints", (), ("realtime.change_delivery",)
    RESEND_ELSEWHERE = (
        "send deliveries again to another URL",
        (LISTEN,),
        ("realtime.change_delivery", "realtime.view_delivery"),
    )
    SEE_CONNECTED = (
        "see who is connected: the address, client and key of each socket",
        (),
        ("instances.view_instance",),
    )
    SEE_QR_CODE = (
        "see the QR and pairing codes of an instance",
        (LISTEN,),
        ("instances.view_instance",),
    )
    CONNECT = "connect, restart or log out an instance", (), ("instances.change_instance",)
    SEND_MESSAGE = "send a test message", (SEND,), ("instances.view_instance",)
    CUT = "cut a socket or event stream", (), ("instances.change_instance",)

    def __init__(self, description: str, scopes: tuple[str, ...], permissions: tuple[str, ...]) -> None:
        self.description = description
        self.scopes = scopes
        self.permissions = permissions


#: The applications whose models a role has permissions for, whichever models they have.
OWN_APPS = ("instances", "realtime")


@dataclass(frozen=True)
class RoleRights:
    """A row of the table: a role of staff users. Its permissions are added to those that a user has otherwise."""

    #: The things that a user with this role may do, as a continuation of "may".
    meaning: str
    #: Verbs of Django's permissions that it has for every model of OWN_APPS.
    verbs: tuple[str, ...]
    #: Its other permissions.
    permissions: tuple[str, ...] = ()
    #: False if it reads no bodies of messages, events and deliveries, and no QR or pairing codes.
    reads_content: bool = True

    def has_perm(self, permission: str) -> bool:
        """Return whether the role has a permission, named as in "instances.view_instance"."""
        app, _, codename = permission.partition(".")
        is_of_every_model = app in OWN_APPS and codename.partition("_")[0] in self.verbs
        return is_of_every_model or permission in self.permissions

    @property
    def apps(self) -> frozenset[str]:
        """The applications that it has permissions for."""
        return frozenset((*OWN_APPS, *(permission.partition(".")[0] for permission in self.permissions)))


#: The roles, by their names in `instances.models.StaffRole`.
ROLES = {
    "viewer": RoleRights(
        "see everything but content: types, times, states and ids, but neither bodies of messages, events and "
        "deliveries nor QR and pairing codes",
        verbs=("view",),
        reads_content=False,
    ),
    "operator": RoleRights(
        "run instances: connect, change and delete them, read and send messages, set up endpoints, send deliveries "
        "again, issue and revoke keys",
        verbs=("view",),
        permissions=(
            *("instances.add_instance", "instances.change_instance", "instances.delete_instance"),
            *("instances.add_subscription", "instances.change_subscription", "instances.delete_subscription"),
            *("instances.add_apikey", "instances.change_apikey", "instances.delete_apikey"),
            *("instances.add_message", "realtime.add_event", "realtime.change_delivery"),
        ),
    ),
    "administrator": RoleRights(
        "do everything, with users, their roles and groups; only to make superusers takes a superuser",
        verbs=("view", "add", "change", "delete"),
        permissions=(
            *("auth.view_user", "auth.add_user", "auth.change_user", "auth.delete_user"),
            *("auth.view_group", "auth.add_group", "auth.change_group", "auth.delete_group"),
        ),
    ),
}


def role_of(user: Any) -> RoleRights | None:
    """Return the role of a staff user; None for superusers, who have every right, and for users without one.

    The first call for a user reads the database.
    """
    row = None if getattr(user, "is_superuser", False) else getattr(user, "staff_role", None)
    return ROLES.get(row.role, ROLES["viewer"]) if row else None


def sees_content(user: Any) -> bool:
    """Return whether a user may read bodies of messages, events and deliveries, QR and pairing codes.

    It comes on top of the permissions for the pages that show them: a viewer may not, whatever permissions he has.
    """
    role = role_of(user)
    return role is None or role.reads_content


def has_scope(user: Any, scope: str) -> bool:
    """Return whether a user of the admin has a scope, with those that it includes."""
    right = RIGHTS[scope]
    if right.reads_content and not sees_content(user):
        return False
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
    lines += [_ROLES, "| Role | May | Permissions |", "|---|---|---|"]
    for name, role in ROLES.items():
        verbs = ", ".join(f"`{verb}_…`" for verb in role.verbs)
        lines.append(f"| {name} | {role.meaning} | {', '.join(filter(None, [verbs, _codenames(role.permissions)]))} |")
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

_ROLES = """\

A user who lacks `manage` sees URLs of endpoints with `********` in place of their path and of the values in their
query. He can add an instance, whose token is then shown to nobody: those who have `manage` can show it.

## Roles

A staff user may have a role, on his page in the admin. It adds its permissions to those that he is given otherwise; a
verb with `…` stands for all that evoapi stores. Superusers are administrators. Staff without a role have the
permissions that they are given, and all instances.
"""

_USERS = """
A viewer reads no content whatever his permissions are, and so has none of `listen`, `read` and `manage`.

A viewer or operator can be limited to some instances; limited to none, he sees none. The limit holds for every list,
search, chart, console, export and token: he sees what belongs to his instances, issues and sees keys for these alone,
and sees neither the endpoints of all instances and their deliveries nor processes, users and groups. An instance that
he creates is added to his. Keys that he issued before stay when the limit is narrowed: revoke them.

The console's tokens end within two seconds with the session, the permission, the role, the limit or the account.

## Users and groups

A user who is no superuser gives other users, and groups, the permissions and roles that he has himself, and changes or
deletes only users and groups that have no others; a superuser is changed by superusers. Users who are limited, and
viewers, manage neither users nor groups.
"""

if __name__ == "__main__":
    print(document(), end="")
