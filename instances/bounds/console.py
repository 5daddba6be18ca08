"""Bounds of the live console."""

from __future__ import annotations

from instances.bounds.bound import Holder, bound

CONSOLE_EVENTS = bound(
    "LIMIT_CONSOLE_EVENTS",
    1000,
    "events",
    Holder.PROCESS,
    limits="earlier events in a response to the live console",
    beyond="the page asks for those before them when somebody wants to see them",
)
CONSOLE_NAMESPACES = bound(
    "LIMIT_CONSOLE_NAMESPACES",
    20,
    "instances",
    Holder.PROCESS,
    limits="instances that one console shows together, to a user who may not see all of them",
    beyond="the page lists the instances, to choose one",
)
CONSOLE_DELIVERIES = bound(
    "LIMIT_CONSOLE_DELIVERIES",
    50,
    "deliveries",
    Holder.PROCESS,
    limits="deliveries on the page of an event, the newest ones; each with its last 50 attempts",
    beyond="the page links to the list of all of them",
)
