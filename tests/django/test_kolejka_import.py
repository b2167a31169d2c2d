"""A kolejka site comes over: accounts with their passwords, files, tasks and results under their old names.

``tests/kolejka`` does the same with a database that kolejka's own server has made. Here its tables are made by hand,
on the database that the tests run on.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.hashers import make_password
from django.core.management import CommandError, call_command
from django.db import connection
from psycopg.conninfo import make_conninfo

from grid.core.models import Node, Reference, Task
from tests.django import builders as given
from tests.django.kolejkas import Program

pytestmark = pytest.mark.django_db

THEN = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
PASSWORD = "a password of before"
TABLES = """
CREATE TABLE auth_group (id integer PRIMARY KEY, name text);
CREATE TABLE auth_user (id integer PRIMARY KEY, password text, last_login timestamptz, is_superuser bool, username text,
    last_name text, email text, is_staff bool, is_active bool, date_joined timestamptz, first_name text);
CREATE TABLE auth_user_groups (id integer PRIMARY KEY, user_id integer, group_id integer);
CREATE TABLE blob_blob (id integer PRIMARY KEY, key text, size bigint);
CREATE TABLE blob_reference (id integer PRIMARY KEY, key text, time_create timestamptz, time_access timestamptz,
    public bool, blob_id integer, user_id integer);
CREATE TABLE task_task (id integer PRIMARY KEY, key text, description text, time_create timestamptz,
    time_assign timestamptz, user_id integer);
CREATE TABLE task_task_files (id integer PRIMARY KEY, task_id integer, reference_id integer);
CREATE TABLE task_result (id integer PRIMARY KEY, description text, time_create timestamptz, task_id integer);
CREATE TABLE task_result_files (id integer PRIMARY KEY, result_id integer, reference_id integer);
"""
TASK = {"image": "busybox", "args": ["uname"], "limits": {"memory": "67108864b", "time": "2.0s"}, "stdout": "out"}


class Site:
    """The database and the files of a kolejka server."""

    def __init__(self, folder: Path) -> None:
        self.blobs = folder / "blobs"
        self.database = str(folder / "site.sqlite3")
        self._rows: list[tuple[str, tuple[Any, ...]]] = []

    def add(self, table: str, **values: Any) -> None:
        """Add a row."""
        places = ", ".join(["%s"] * len(values))
        sql = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})"  # noqa: S608 - names of the tests' own
        self._rows.append((sql, tuple(values.values())))

    def content(self, number: int, content: bytes, *, kept: bool = True, public: bool = False) -> None:
        """Add a content with the reference ``ref-NUMBER`` of user 1."""
        key = hashlib.sha256(content).hexdigest()
        self.add("blob_blob", id=number, key=key, size=len(content))
        moments = {"time_create": THEN, "time_access": THEN}
        self.add("blob_reference", id=number, key=f"ref-{number}", public=public, blob_id=number, user_id=1, **moments)
        path = self.blobs / "blob" / key[:2] / key[2:4] / key[4:6] / key[6:]
        path.parent.mkdir(parents=True)
        if kept:
            path.write_bytes(content)

    def task(self, number: int, description: object, result: object | None = None) -> None:
        """Add the task ``task-NUMBER`` of user 1."""
        text = json.dumps(description)
        self.add("task_task", id=number, key=f"task-{number}", description=text, time_create=THEN, user_id=1)
        if result is not None:
            self.add("task_result", id=number, description=json.dumps(result), time_create=THEN, task_id=number)

    def write(self) -> None:
        """Make the database."""
        if connection.vendor == "postgresql":
            self._write_postgres()
            return
        with sqlite3.connect(self.database) as old:
            old.executescript(TABLES)
            for sql, values in self._rows:
                texts = [f"{one:%Y-%m-%d %H:%M:%S}" if isinstance(one, datetime) else one for one in values]
                old.execute(sql.replace("%s", "?"), texts)
        old.close()

    def _write_postgres(self) -> None:
        ours = connection.settings_dict
        server = {name.lower(): str(ours[name]) for name in ("HOST", "PORT", "USER") if ours[name]}
        name = f"{ours['NAME']}_kolejka"
        with psycopg.connect(make_conninfo(dbname="postgres", **server), autocommit=True) as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
            admin.execute(f'CREATE DATABASE "{name}"'.encode())
        with psycopg.connect(make_conninfo(dbname=name, **server)) as old:
            old.execute(TABLES.encode())
            for sql, values in self._rows:
                old.execute(sql.encode(), values)
        where = f"host={server['host']}&" if server.get("host", "").startswith("/") else ""
        host = "" if where else server.get("host", "localhost")
        self.database = f"postgres://{server['user']}@{host}:{server.get('port', '5432')}/{name}?{where}"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with an account, four contents of which one is lost, and three tasks of which two have ended."""
    made = Site(tmp_path)
    made.add("auth_group", id=1, name="Clients")
    made.add("auth_group", id=2, name="teachers")
    switches = {"is_superuser": False, "is_staff": False, "is_active": True}
    names = {"username": "ada", "first_name": "Ada", "last_name": "L", "email": "ada@host.example"}
    password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    made.add("auth_user", id=1, password=password, date_joined=THEN, last_login=None, **switches, **names)
    for number in (1, 2):
        made.add("auth_user_groups", id=number, user_id=1, group_id=number)
    made.content(1, b"3 4\n")
    made.content(2, b"Linux\n")
    made.content(3, b"lost", kept=False)
    made.content(4, b"for all", public=True)
    files = {"in.txt": {"reference": "ref-1"}, "lost.txt": {"reference": "ref-3"}}
    done = {"id": "task-1", "result": 3, "tags": ["hostname:old"], "files": {"out": {"reference": "ref-2"}}}
    done["stats"] = {"time": "1.5s", "cpu": {"usage": "0.2s"}, "memory": {"max_usage": "1024b"}}
    made.task(1, {**TASK, "files": files}, done)
    made.task(2, TASK, {"id": "task-2", "result": 137, "stats": {"time": "2.7s"}})
    made.task(3, TASK)
    made.task(4, [], {"result": 0})
    for number, reference in ((1, 1), (2, 3)):
        made.add("task_task_files", id=number, task_id=1, reference_id=reference)
    made.add("task_result_files", id=1, result_id=1, reference_id=2)
    made.write()
    return made


def imported(site: Site, *options: str) -> tuple[dict[str, int], str]:
    """The counts that the command prints, and what it says beside."""
    out, err = StringIO(), StringIO()
    call_command(
        "importkolejka", "--database", site.database, "--blobs", str(site.blobs), *options, stdout=out, stderr=err
    )
    lines = (line.rsplit(": ", 1) for line in out.getvalue().splitlines())
    return {kind: int(number) for kind, number in lines}, err.getvalue()


EXPECTED = {
    "groups": 1,
    "users": 1,
    "references": 3,
    "references without a file": 1,
    "tasks": 2,
    "tasks unreadable": 1,
    "tasks without a result, left": 1,
}


def test_everything_comes_over_once(site: Site) -> None:
    assert imported(site, "--dry-run")[0] == EXPECTED
    assert (Task.objects.count(), Reference.objects.count(), Node.objects.count()) == (0, 0, 0)
    counts, said = imported(site)
    assert counts == EXPECTED | {"tasks without all files": 1}
    assert "task task-4" in said
    assert "reference ref-3" in said
    again = imported(site)[0]
    assert (again["users known"], again["references known"], again["tasks known"]) == (1, 3, 2)
    assert Task.objects.count() == 2


def test_people_log_in_as_before_and_find_what_they_had(site: Site) -> None:
    imported(site)
    user = Task.objects.filter(verdict="exit_code").get().owner
    assert sorted(user.groups.values_list("name", flat=True)) == ["Clients", "teachers"]
    assert (user.first_name, user.email, user.date_joined) == ("Ada", "ada@host.example", THEN)
    ada = Program(user, PASSWORD)
    assert ada.login == {"status": "OK"}
    result = ada.ask("GET", "task/result/task-1/")["result"]
    assert (result["id"], result["result"], result["verdict"], result["tags"]) == (
        "task-1",
        3,
        "exit_code",
        ["hostname:old"],
    )
    assert result["stats"]["cpu"]["usage"] == "0.2s"
    assert ada.ask("GET", f"blob/reference/{result['files']['out']['reference']}/") == b"Linux\n"
    assert ada.ask("GET", "task/result/task-2/")["result"]["verdict"] == "time_limit"
    task = ada.ask("GET", "task/task/task-1/")["task"]
    assert sorted(task["files"]) == ["in.txt"]
    assert ada.ask("GET", "blob/reference/ref-1/") == b"3 4\n"
    found = Task.objects.get(verdict="time_limit")
    assert (found.created_at, found.finished_at, found.state) == (THEN, THEN, "failed")
    assert found.id.startswith(f"{int(THEN.timestamp() * 1000):012x}7")


def test_public_contents_stay_public_to_those_who_are_known(site: Site) -> None:
    imported(site)
    bob = Program(given.a_user("bob"))
    assert bob.ask("GET", "blob/reference/ref-4/") == b"for all"
    bob.ask("GET", "blob/reference/ref-1/")
    assert bob.status == 404
    Program().ask("GET", "blob/reference/ref-4/")


def test_what_waits_is_queued_here_when_that_is_asked_for(site: Site) -> None:
    counts, _ = imported(site, "--queue")
    assert counts["tasks queued"] == 1
    (task,) = Task.objects.filter(state="queued")
    assert task.older_key.key == "task-3"
    assert imported(site, "--queue")[0]["tasks known"] == 3


def test_an_account_that_is_here_keeps_its_password(site: Site) -> None:
    ada = given.a_user()
    ada.set_password("the password here")
    ada.save()
    imported(site)
    assert Program(ada, "the password here").login == {"status": "OK"}
    assert Program(ada, PASSWORD).login["status"] == "FAIL"


def test_what_is_no_site_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty.sqlite3"
    sqlite3.connect(empty).close()
    for database, words in ((str(empty), "not that of a kolejka"), (str(tmp_path / "none"), "there is no database")):
        with pytest.raises(CommandError, match=words):
            call_command("importkolejka", "--database", database, "--blobs", str(tmp_path))
