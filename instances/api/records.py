"""Rows as tuples of the columns that answers show: a page of model objects takes Django several times as long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from django.db.models import BooleanField, F, Func, QuerySet

from instances.models import message_key
from instances.unreadable import readable


class IsAmong(Func):
    """The condition that a column has one of many values, which PostgreSQL takes as one parameter.

    Django and psycopg take longer for a thousand parameters than PostgreSQL for the query.
    """

    output_field = BooleanField()

    def __init__(self, column: str, values: Iterable[Any]) -> None:
        super().__init__(F(column))
        self.values = list(values)

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        column, _ = compiler.compile(self.source_expressions[0])
        return f"{column} IN ({', '.join(['%s'] * len(self.values)) or 'NULL'})", self.values

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:
        column, _ = compiler.compile(self.source_expressions[0])
        return f"{column} = ANY(%s)", [self.values]


class Columns:
    """The reading of a NamedTuple whose fields are columns, or annotations, of a queryset."""

    @classmethod
    def of(cls, rows: QuerySet[Any]) -> list[Self]:
        """Return the rows, without those that cannot be read."""
        names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
        return [cls(*values[: len(names)]) for values in readable(rows.order_by().values_list(*names))]


class _MessageColumns(NamedTuple):
    id: int
    wa_id: str
    remote_jid: str
    remote_jid_alt: str | None
    from_me: bool
    participant: str | None
    push_name: str | None
    type: str
    timestamp: int
    source: str
    status: str | None
    #: What was sent; None where it was left out, because it is too large.
    shown_content: dict[str, Any] | None
    shown_context: dict[str, Any] | None


class MessageRecord(_MessageColumns, Columns):
    """A stored message."""

    @property
    def key(self) -> dict[str, Any]:
        return message_key(self)


class _ChatColumns(NamedTuple):
    id: int
    remote_jid: str
    name: str | None
    unread_count: int
    last_message_at: int
    last_inbound_at: int
    #: The id of the newest message that was asked for.
    newest_id: int | None


class ChatRecord(_ChatColumns, Columns):
    """A chat."""


class _KnownContactColumns(NamedTuple):
    id: int
    remote_jid: str
    push_name: str | None
    profile_pic_url: str | None


class KnownContact(_KnownContactColumns, Columns):
    """The contact of a chat."""
