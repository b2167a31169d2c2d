"""The database and the files of a kolejka server, which are only read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import psycopg
from django.utils.dateparse import parse_datetime

from tasks.errors import Fault, NotFound, SpecError

_BATCH = 200


@dataclass(frozen=True, slots=True)
class OldUser:
    """An account, with its password as Django hashes it and the names of its groups."""

    id: int
    values: Mapping[str, Any]
    groups: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the user logs in as."""
        return str(self.values["username"])


@dataclass(frozen=True, slots=True)
class OldReference:
    """A name for a content."""

    key: str
    user: int
    sha256: str
    public: bool
    created_at: datetime
    accessed_at: datetime


@dataclass(frozen=True, slots=True)
class OldTask:
    """A task with its result, if it has one; ``files`` and ``result_files`` are contents by reference."""

    id: int
    key: str
    user: int
    description: object
    created_at: datetime
    assigned_at: datetime | None
    result: object | None
    finished_at: datetime | None
    contents: Mapping[str, str]


class Source:
    """Reads one server. ``database`` is a path to SQLite's file or a URL, ``blobs`` its folder BLOB_STORE_PATH."""

    def __init__(self, database: str, blobs: Path) -> None:
        self._blobs = blobs
        self._connection, self._sqlite = _opened(database)
        try:
            ((number,),) = self._rows("SELECT COUNT(*) FROM task_task")
        except (sqlite3.Error, psycopg.Error) as error:
            self._connection.close()
            raise SpecError([Fault("database", f"is not that of a kolejka server: {error}")]) from None
        self.tasks = int(number)

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def groups(self) -> list[str]:
        """The names of all groups."""
        return [str(name) for (name,) in self._rows("SELECT name FROM auth_group ORDER BY name")]

    def users(self) -> list[OldUser]:
        """All accounts."""
        names: dict[int, list[str]] = {}
        joined = "SELECT m.user_id, g.name FROM auth_user_groups m JOIN auth_group g ON g.id = m.group_id"
        for user, name in self._rows(joined):
            names.setdefault(user, []).append(name)
        texts, switches = (
            ("username", "password", "email", "first_name", "last_name"),
            ("is_active", "is_staff", "is_superuser"),
        )
        moments = ("date_joined", "last_login")
        columns = (*texts, *switches, *moments)
        users = []
        for user, *values in self._rows(f"SELECT id, {', '.join(columns)} FROM auth_user ORDER BY id"):  # noqa: S608
            found = dict(zip(columns, values, strict=True))
            for name in moments:
                found[name] = _moment(found[name])
            for name in switches:
                found[name] = bool(found[name])
            users.append(OldUser(user, found, tuple(names.get(user, ()))))
        return users

    def references(self) -> Iterator[OldReference]:
        """All references, in the order of their ids."""
        sql = (
            "SELECT r.id, r.key, r.user_id, b.key, r.public, r.time_create, r.time_access FROM blob_reference r "
            "JOIN blob_blob b ON b.id = r.blob_id WHERE r.id > %s ORDER BY r.id LIMIT %s"
        )
        for _, key, user, sha256, public, created, accessed in self._walk(sql):
            yield OldReference(key, user, sha256, bool(public), _moment(created) or _EPOCH, _moment(accessed) or _EPOCH)

    def all_tasks(self) -> Iterator[OldTask]:
        """All tasks, oldest first."""
        sql = (
            "SELECT t.id, t.key, t.user_id, t.description, t.time_create, t.time_assign, r.id, r.description, "
            "r.time_create FROM task_task t LEFT JOIN task_result r ON r.task_id = t.id "
            "WHERE t.id > %s ORDER BY t.id LIMIT %s"
        )
        for number, key, user, text, created, assigned, result, result_text, finished in self._walk(sql):
            contents = self._contents("task_task_files", "task_id", number)
            if result is not None:
                contents |= self._contents("task_result_files", "result_id", result)
            yield OldTask(
                id=number,
                key=key,
                user=user,
                description=_json(text),
                created_at=_moment(created) or _EPOCH,
                assigned_at=_moment(assigned),
                result=None if result is None else _json(result_text),
                finished_at=_moment(finished),
                contents=contents,
            )

    def chunks(self, sha256: str) -> Iterator[bytes] | None:
        """The bytes of a content; None when its file is gone."""
        for kind in ("blob", "inactive"):
            path = self._blobs / kind / sha256[:2] / sha256[2:4] / sha256[4:6] / sha256[6:]
            if path.is_file():
                return _read(path)
        return None

    def _contents(self, table: str, column: str, number: int) -> dict[str, str]:
        sql = (
            f"SELECT r.key, b.key FROM {table} m JOIN blob_reference r ON r.id = m.reference_id "  # noqa: S608 - ours
            f"JOIN blob_blob b ON b.id = r.blob_id WHERE m.{column} = %s"
        )
        return {str(key): str(sha256) for key, sha256 in self._rows(sql, number)}

    def _rows(self, sql: str, *values: str | int) -> list[tuple[Any, ...]]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql.replace("%s", "?") if self._sqlite else sql, values)
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def _walk(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Rows whose first column is the id, a batch at a time."""
        last = 0
        while rows := self._rows(sql, last, _BATCH):
            yield from rows
            last = rows[-1][0]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Connection(Protocol):
    """What both drivers have in common."""

    def cursor(self) -> Any: ...

    def close(self) -> None: ...


def _opened(database: str) -> tuple[_Connection, bool]:
    """A connection that writes nothing, and whether it is one of SQLite. Raises NotFound, SpecError."""
    if "://" in database and not database.startswith("sqlite:"):
        try:
            return psycopg.connect(database, options="-c default_transaction_read_only=on"), False
        except psycopg.Error as error:
            raise SpecError([Fault("database", f"cannot be opened: {error}")]) from None
    path = Path(database.removeprefix("sqlite:///"))
    if not path.is_file():
        raise NotFound(f"there is no database {path}")
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True), True


def _moment(value: object) -> datetime | None:
    """A time of the database: SQLite keeps them as text, both in UTC."""
    found = parse_datetime(value) if isinstance(value, str) else value
    if not isinstance(found, datetime):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _json(text: str) -> object:
    """What a description says; text that is no JSON is told of by whoever reads it."""
    try:
        found: object = json.loads(text)
    except ValueError:
        return None
    return found


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(256 * 1024):
            yield block
