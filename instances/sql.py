"""SQL for the statements of every message: Django takes longer to compile a queryset than the database to run it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, models

M = TypeVar("M", bound=models.Model)


#: A field that belongs to no model: to make one takes longer than to convert a value.
_UUID = models.UUIDField()


def database_id(value: UUID) -> Any:
    """Return a UUID as the database takes it."""
    return _UUID.get_db_prep_value(value, connection)


def set_lock_timeout(milliseconds: int) -> None:
    """Limit the waits for locks in the current transaction; on SQLite its connection limits them."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {int(milliseconds)}")


def locked_by_others(rows: models.QuerySet[Any], ids: Collection[Any]) -> set[Any]:
    """Lock rows until the transaction ends; return the ids of those that other transactions have locked.

    These are not waited for. On SQLite, which has one lock for all, there are none.
    """
    if not ids or not connection.features.has_select_for_update_skip_locked:
        return set()
    found = rows.filter(pk__in=ids).order_by("pk")
    locked = set(found.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True))
    if len(locked) == len(set(ids)):
        return set()
    return set(rows.filter(pk__in=set(ids) - locked).values_list("pk", flat=True))  # others are gone


def insert(objects: Iterable[models.Model], ignore_conflicts: bool = False) -> None:
    """Insert objects of one model, like `bulk_create`, but set no primary keys on them. Raises IntegrityError."""
    objects = list(objects)
    if not objects:
        return
    model = objects[0].__class__
    fields = _fields(model)
    rows = [[field.get_db_prep_save(field.pre_save(obj, add=True), connection) for field in fields] for obj in objects]
    with connection.cursor() as cursor:
        statement = _insert_statement(model, ignore_conflicts)
        if len(rows) == 1:
            cursor.execute(statement, rows[0])
        else:
            cursor.executemany(statement, rows)


@lru_cache
def _fields(model: type[models.Model]) -> list[models.Field[Any, Any]]:
    """Return the fields of a model that the database does not generate."""
    fields = [field for field in model._meta.concrete_fields if not isinstance(field, models.AutoField)]
    return [field for field in fields if field.has_default() or not field.has_db_default()]


@lru_cache
def _insert_statement(model: type[models.Model], ignore_conflicts: bool) -> str:
    columns = [f'"{field.column}"' for field in _fields(model)]
    values = ", ".join(["%s"] * len(columns))
    ending = " ON CONFLICT DO NOTHING" if ignore_conflicts else ""
    return f'INSERT INTO "{model._meta.db_table}" ({", ".join(columns)}) VALUES ({values}){ending}'  # noqa: S608


def select(
    model: type[models.Model], columns: Collection[str], instance_id: UUID, column: str, values: Collection[Any]
) -> list[tuple[Any, ...]]:
    """Return these columns of an instance's rows with `column` in `values`, unconverted as the database has them."""
    if not values:
        return []
    selected, placeholders = ", ".join(f'"{name}"' for name in columns), ", ".join(["%s"] * len(values))
    statement = (
        f'SELECT {selected} FROM "{model._meta.db_table}" '  # noqa: S608 (names of our own models alone)
        f'WHERE "instance_id" = %s AND "{column}" IN ({placeholders})'
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [database_id(instance_id), *values])
        return cursor.fetchall()


def load(model: type[M], instance_ids: Collection[UUID], condition: str = "", values: Collection[Any] = ()) -> list[M]:
    """Return the objects of these instances; `condition` is SQL with a placeholder for each of `values`."""
    if not instance_ids:
        return []
    keys = [database_id(instance_id) for instance_id in instance_ids]
    where = f"instance_id IN ({', '.join(['%s'] * len(keys))}){condition}"
    return load_where(model, where, [*keys, *values])


def load_where(model: type[M], where: str, values: Collection[Any]) -> list[M]:
    """Return the objects that SQL selects; `where` has a placeholder for each of `values`, and what follows it."""
    return list(model._default_manager.raw(f'SELECT * FROM "{model._meta.db_table}" WHERE {where}', values))  # noqa: S608
