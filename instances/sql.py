"""Statements that every message needs, made once: Django makes them anew each time, which costs more than they do."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, models

M = TypeVar("M", bound=models.Model)


def insert(objects: Iterable[models.Model], ignore_conflicts: bool = False) -> None:
    """`bulk_create` of objects of one model, which sets no primary keys. Raises IntegrityError."""
    objects = list(objects)
    if not objects:
        return
    model = objects[0].__class__
    fields = _fields(model)
    rows = [[field.get_db_prep_save(field.pre_save(one, add=True), connection) for field in fields] for one in objects]
    with connection.cursor() as cursor:
        statement = _insertion(model, ignore_conflicts)
        if len(rows) == 1:
            cursor.execute(statement, rows[0])
        else:
            cursor.executemany(statement, rows)


@lru_cache
def _fields(model: type[models.Model]) -> list[models.Field[Any, Any]]:
    """Those that the database does not fill by itself."""
    fields = [field for field in model._meta.concrete_fields if not isinstance(field, models.AutoField)]
    return [field for field in fields if not field.has_db_default()]


@lru_cache
def _insertion(model: type[models.Model], ignore_conflicts: bool) -> str:
    columns = [f'"{field.column}"' for field in _fields(model)]
    values = ", ".join(["%s"] * len(columns))
    ending = " ON CONFLICT DO NOTHING" if ignore_conflicts else ""
    return f'INSERT INTO "{model._meta.db_table}" ({", ".join(columns)}) VALUES ({values}){ending}'  # noqa: S608


def select(
    model: type[models.Model], columns: Collection[str], instance_id: UUID, column: str, values: Collection[Any]
) -> list[tuple[Any, ...]]:
    """These columns of an instance's rows that have one of the values there, as the database gives them."""
    if not values:
        return []
    told, places = ", ".join(f'"{name}"' for name in columns), ", ".join(["%s"] * len(values))
    statement = (
        f'SELECT {told} FROM "{model._meta.db_table}" '  # noqa: S608 (all of it is our own)
        f'WHERE "instance_id" = %s AND "{column}" IN ({places})'
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [models.UUIDField().get_db_prep_value(instance_id, connection), *values])
        return cursor.fetchall()


def load(model: type[M], instance_ids: Collection[UUID], condition: str = "", values: Collection[Any] = ()) -> list[M]:
    """The objects of these instances; `condition` is SQL, with a placeholder for each of the values."""
    if not instance_ids:
        return []
    keys = [models.UUIDField().get_db_prep_value(instance_id, connection) for instance_id in instance_ids]
    wanted = f"instance_id IN ({', '.join(['%s'] * len(keys))}){condition}"
    return list(model._default_manager.raw(f'SELECT * FROM "{model._meta.db_table}" WHERE {wanted}', [*keys, *values]))  # noqa: S608
