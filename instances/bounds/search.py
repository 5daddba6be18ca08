"""Bounds of searches and lists of the admin."""

from __future__ import annotations

from instances.bounds.bound import Holder, bound

SEARCH_HITS = bound(
    "LIMIT_SEARCH_HITS",
    20,
    "hits",
    Holder.PROCESS,
    limits="hits that the search box of the admin shows, a quarter of them of each kind",
    beyond="the lists of instances, messages and events have searches of their own",
    least=4,
)
SEARCHED_MESSAGES = bound(
    "LIMIT_SEARCHED_MESSAGES",
    5000,
    "messages",
    Holder.PROCESS,
    limits="the newest messages, of all instances together, whose text the search box of the admin looks at",
    beyond="older ones are found by their WhatsApp id or number; it says how far it has looked",
)
SEARCH_MILLISECONDS = bound(
    "LIMIT_SEARCH_MILLISECONDS",
    100,
    "milliseconds",
    Holder.PROCESS,
    limits="time after which the search box of the admin begins no further piece of 2500 messages",
    beyond="it says how far it has looked",
)
FILTERED_ROWS = bound(
    "LIMIT_FILTERED_ROWS",
    50_000,
    "rows",
    Holder.PROCESS,
    limits="the newest rows of a table of the admin that filters and searches without an index look at",
    beyond="the list says so; with an instance or an endpoint a filter looks at all of its rows",
)
