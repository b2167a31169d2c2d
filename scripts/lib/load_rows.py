"""Many rows of one model, each a pattern but for some columns: microseconds for each, where objects take fifty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, models

Row = tuple[object, ...]


class Rows:
    """A table and the pattern of its rows, whose columns are named as the fields of the model."""

    def __init__(self, model: type[models.Model], **pattern: object) -> None:
        fields = [one for one in model._meta.concrete_fields if not isinstance(one, models.AutoField)]
        self._fields: dict[str, models.Field[Any, Any]] = {one.attname: one for one in fields}
        given = {name: pattern.get(name, one.get_default()) for name, one in self._fields.items()}
        self._pattern = {name: self.ready(name, value) for name, value in given.items()}
        quote = connection.ops.quote_name
        self._table = quote(model._meta.db_table)
        self._columns = ", ".join(quote(str(one.column)) for one in fields)

    def ready(self, name: str, value: object) -> Any:
        """The value of a column as the database takes it."""
        return self._fields[name].get_db_prep_save(value, connection)

    def row(self, **changes: object) -> Row:
        """The pattern with these columns, which are given as ``ready`` makes them."""
        return tuple({**self._pattern, **changes}.values())

    def write(self, rows: Iterable[Row]) -> None:
        """Write the rows; belongs into a transaction."""
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                with cursor.copy(f"COPY {self._table} ({self._columns}) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
                return
            places = ", ".join("?" * len(self._pattern))
            statement = f"INSERT INTO {self._table} ({self._columns}) VALUES ({places})"  # noqa: S608 - our names
            # Past Django's cursor, which would write down each statement.
            cursor.cursor.executemany(statement, rows)


@contextmanager
def unchecked() -> Iterator[None]:
    """Rows that name each other are not looked up meanwhile; whoever writes them answers for that."""
    switch = "SET session_replication_role = {}" if connection.vendor == "postgresql" else "PRAGMA foreign_keys = {}"
    off, on = ("replica", "origin") if connection.vendor == "postgresql" else ("OFF", "ON")
    with connection.cursor() as cursor:
        cursor.execute(switch.format(off))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(switch.format(on))


def analyze() -> None:
    """Look through the tables as PostgreSQL does by itself some time after so many rows came."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
