"""Pages of an instance's stored messages, newest first, whatever its number of messages is.

The ids of a page are found first, in an index alone; then the sizes of its messages, and of these as many contents as a
response may hold.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Case, F, Func, IntegerField, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Coalesce

from instances.api.records import IsAmong, MessageRecord
from instances.bounds import COUNTED_MESSAGES, LAST_MESSAGE_BYTES, PAGE_BYTES
from instances.fields import JsonField
from instances.models import Chat, Instance, Message, MessageCount, MessageStatus
from instances.names import jid
from instances.numbers import whole_number

#: The order of messages; ids tell those of one second apart.
NEWEST_FIRST = ("-timestamp", "-id")
#: The columns that hold what was sent, of any size.
CONTENTS = ("content", "context")
#: In place of contents that are left out.
NO_JSON = Value(None, output_field=JsonField())

#: Columns by the names of `where` and of `where.key`.
_COLUMNS = {"source": "source", "messageType": "type"}
_KEY_COLUMNS = {"id": "wa_id", "fromMe": "from_me", "participant": "participant", "participants": "participant"}


@dataclass(frozen=True)
class MessagePage:
    """A page of messages and the number of all that match."""

    messages: list[MessageRecord]
    #: The statuses of each message by its id, the oldest first.
    statuses: Mapping[int, list[str]]
    total: int


def find(instance: Instance, where: dict[str, Any], page: int, size: int) -> MessagePage:
    """Return a page of the messages that match the filters of `where`, as `FindMessagesBody` holds them."""
    search = _Search(instance, where)
    skip = (page - 1) * size
    total = search.total(skip + size)
    ids = search.ids(skip, size) if skip < total else []
    whole = _fitting(ids)
    found = MessageRecord.of(_columns_of(whole, with_contents=True))
    if trimmed := [pk for pk in ids if pk not in whole]:
        found += MessageRecord.of(_columns_of(trimmed, with_contents=False))
    by_id = {message.id: message for message in found}
    return MessagePage([by_id[pk] for pk in ids if pk in by_id], statuses_of(ids), total)


def _columns_of(ids: Iterable[int], with_contents: bool) -> QuerySet[Message]:
    """Return messages with the columns of a MessageRecord, with or without what was sent."""
    content, context = (F("content"), F("context")) if with_contents else (NO_JSON, NO_JSON)
    return Message.objects.filter(IsAmong("id", ids)).annotate(shown_content=content, shown_context=context)


def last_messages(ids: Iterable[int]) -> dict[int, MessageRecord]:
    """Return messages by their ids for a list: without the contents that are too large for it."""
    is_small = Q(size__lte=LAST_MESSAGE_BYTES)
    content, context = (Case(When(is_small, then=F(name)), output_field=JsonField()) for name in ("content", "context"))
    messages = Message.objects.filter(IsAmong("id", ids)).annotate(size=stored_size("content", "context"))
    records = MessageRecord.of(messages.annotate(shown_content=content, shown_context=context))
    return {message.id: message for message in records}


def statuses_of(ids: Sequence[int]) -> dict[int, list[str]]:
    """Return the statuses that messages have had, each once, the oldest first."""
    found: dict[int, dict[str, None]] = defaultdict(dict)
    rows = MessageStatus.objects.filter(IsAmong("message_id", ids)).order_by("id").values_list("message_id", "status")
    for message_id, status in rows if ids else ():
        found[message_id].setdefault(status)
    return {message_id: list(words) for message_id, words in found.items()}


def stored_size(*columns: str) -> Any:
    """Return an expression for the bytes of columns with texts; where characters are counted, for these."""
    function = "OCTET_LENGTH" if connection.vendor == "postgresql" else "LENGTH"
    sizes = [Coalesce(Func(F(column), function=function, output_field=IntegerField()), 0) for column in columns]
    return sum(sizes[1:], sizes[0]) if sizes else Value(0)


def _fitting(ids: Sequence[int]) -> set[int]:
    """Return the messages whose contents fit into a response, the first of them first; one at least."""
    stored = Message.objects.filter(IsAmong("id", ids)).order_by()
    sizes = dict(stored.values_list("pk", stored_size(*CONTENTS))) if ids else {}
    whole: set[int] = set()
    left = PAGE_BYTES
    for pk in ids:
        size = sizes.get(pk, 0)
        if size <= left or not whole:
            whole.add(pk)
            left -= size
    return whole


class _Search:
    """The messages of an instance that match filters."""

    def __init__(self, instance: Instance, where: dict[str, Any]) -> None:
        self.instance = instance
        key = where.get("key", {})
        #: The addresses of the chat that is asked for: a message is found by any of its own.
        self.jids = list(dict.fromkeys(key[name] for name in ("remoteJid", "remoteJidAlt") if name in key))
        # a phone number means its address, too, which a message that was sent to the number has as its other one
        self.jids += [jid(each) for each in self.jids if "@" not in each and jid(each) not in self.jids]
        self.filters = _filters(where, key)
        self.stored: QuerySet[Message] = Message.objects.stored(instance).filter(self.filters)
        others = Message.objects.filter(instance=instance, remote_jid_alt__in=self.jids)
        self.has_others = bool(self.jids) and others.exists()

    def total(self, upto: int) -> int:
        """Return the number of messages: from counters where there are no other filters than for one chat.

        Others are counted up to COUNTED_MESSAGES, or beyond the page that ends with the message number `upto`.
        """
        limit = max(COUNTED_MESSAGES, upto + 1)
        if self.filters:
            return self._of_chat().order_by()[:limit].count()
        if not self.jids:
            return MessageCount.objects.filter(pk=self.instance.pk).values_list("count", flat=True).first() or 0
        chats = Chat.objects.filter(instance=self.instance, remote_jid__in=self.jids)
        counted = chats.aggregate(total=Sum("message_count"))["total"] or 0
        others = sum(rows.order_by()[:limit].count() for rows in self._by_other_jid())
        return int(counted) + others

    def _of_chat(self) -> QuerySet[Message]:
        if not self.jids:
            return self.stored
        is_of_chat = Q(remote_jid__in=self.jids)
        return self.stored.filter(is_of_chat | Q(remote_jid_alt__in=self.jids) if self.has_others else is_of_chat)

    def _by_other_jid(self) -> list[QuerySet[Message]]:
        """Return the messages whose other address alone is asked for."""
        if not self.has_others:
            return []
        return [self.stored.filter(remote_jid_alt=each).exclude(remote_jid__in=self.jids) for each in self.jids]

    def ids(self, skip: int, limit: int) -> list[int]:
        """Return the ids of a page."""
        parts = [self.stored.filter(remote_jid=each) for each in self.jids] or [self.stored]
        parts += self._by_other_jid()
        if len(parts) == 1:
            return list(parts[0].order_by(*NEWEST_FIRST).values_list("pk", flat=True)[skip : skip + limit])
        return _merged(parts, skip, limit)


def _merged(parts: Iterable[QuerySet[Message]], skip: int, limit: int) -> list[int]:
    """Return the ids of a page of several querysets without a message in common.

    Each is read in the order of an index; an OR of them would be sorted as a whole. Django cannot limit the parts of a
    union on SQLite.
    """
    statements: list[str] = []
    parameters: list[Any] = []
    for number, part in enumerate(parts):
        first = part.order_by(*NEWEST_FIRST).values_list("timestamp", "id")[: skip + limit]
        statement, values = first.query.sql_with_params()
        statements.append(f"SELECT * FROM ({statement}) AS part{number}")  # noqa: S608 (Django's own SQL)
        parameters += values
    union = " UNION ALL ".join(statements)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id FROM ({union}) AS parts ORDER BY timestamp DESC, id DESC LIMIT %s OFFSET %s",  # noqa: S608
            [*parameters, limit, skip],
        )
        return [pk for (pk,) in cursor.fetchall()]


def _filters(where: dict[str, Any], key: dict[str, Any]) -> Q:
    """Return the filters besides that for a chat."""
    filters = Q(**{column: where[name] for name, column in _COLUMNS.items() if name in where})
    filters &= Q(**{column: key[name] for name, column in _KEY_COLUMNS.items() if name in key})
    if "id" in where:
        filters &= Q(pk=whole_number(where["id"]) or 0)
    return filters & within(where.get("messageTimestamp", {}))


def within(period: dict[str, float], column: str = "timestamp") -> Q:
    """Return the condition that a time in seconds is in a period, which may lack its beginning or its end."""
    condition = Q()
    if "gte" in period:
        condition &= Q((f"{column}__gte", math.ceil(period["gte"])))
    if "lte" in period:
        condition &= Q((f"{column}__lte", math.floor(period["lte"])))
    return condition
