"""Many rows of one kind in one statement. ``bulk_create`` prepares each value of each row anew, 150 us for a task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connection, models


def insert(rows: Iterable[models.Model]) -> int:
    """Insert new rows of one model and return how many; belongs into a transaction.

    As with ``bulk_create`` no signals are sent; keys that the database makes are not read back. Values that are the
    same object in several rows are prepared once.
    """
    found = list(rows)
    if not found:
        return 0
    model = type(found[0])
    fields = [field for field in model._meta.concrete_fields if not isinstance(field, models.AutoField)]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({places})"  # noqa: S608 - names of our own
    with connection.cursor() as cursor:
        cursor.executemany(sql, list(zip(*(_column(field, found) for field in fields), strict=True)))
    return len(found)


def _column(field: models.Field[Any, Any], rows: list[models.Model]) -> list[object]:
    """The values of one column, ready for the database."""
    name = field.attname
    known: dict[int, object] = {}
    prepared = []
    for row in rows:
        value = getattr(row, name)
        key = id(value)
        if key not in known:
            known[key] = field.get_db_prep_save(value, connection)
        prepared.append(known[key])
    return prepared
