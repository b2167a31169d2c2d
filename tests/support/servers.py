"""Further processes of a grid's server, which a test starts and kills by itself, and a look into its database."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dj_database_url
import httpx
import psycopg
from django.db import connection, connections, transaction
from django.db.utils import ConnectionHandler

from tests.django.invariants import Watch
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.story import ended

HOST = "127.0.0.1"
START_SECONDS = 60.0


class ServerProcess:
    """A process with the environment of a grid's server; killed at the end of the context."""

    def __init__(self, grid: RunningGrid, name: str, command: list[str], pass_fds: tuple[int, ...] = ()) -> None:
        self.log = grid.directory / "logs" / f"{name}.log"
        self._command, self._pass_fds = command, pass_fds
        self._directory = grid.directory
        self._environment = environment_of(grid)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, again after a ``kill``."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=dict(self._environment),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self._pass_fds,
            )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by a signal; nothing when it does not run."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(number)
        # A stopped process has no other way to hear of its end.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(START_SECONDS)
        finally:
            process.kill()
            process.wait()

    def said(self, words: str) -> int:
        """How often its log has these words."""
        return self.log.read_text(errors="replace").count(words) if self.log.exists() else 0


class Dispatcher(ServerProcess):
    """One more dispatcher."""

    def __init__(self, grid: RunningGrid, name: str) -> None:
        super().__init__(grid, name, [sys.executable, "-m", "django", "rundispatcher"])

    def start(self) -> None:
        """Start it and wait until it looks at the queue, or stands by."""
        before = self.said("dispatcher listens")
        super().start()
        eventually(lambda: self.said("dispatcher listens") > before, START_SECONDS)

    def __enter__(self) -> Dispatcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class WebServer(ServerProcess):
    """One more web server of the same folder. Its port stays open while it is killed, so that callers wait."""

    def __init__(self, grid: RunningGrid, name: str) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self.address = f"http://{HOST}:{self.port}"
        options = ["--fd", str(self._listener.fileno()), "--no-access-log", "--log-level", "warning"]
        command = [sys.executable, "-m", "uvicorn", "webapp.asgi:application", *options]
        super().__init__(grid, name, command, (self._listener.fileno(),))

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        assert httpx.get(f"{self.address}/health/live", timeout=START_SECONDS).status_code == 200

    def __enter__(self) -> WebServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._listener.close()


@dataclass(frozen=True)
class Lead:
    """Who acts as the dispatcher: its process, the number of its fence, and the time until which it need not ask."""

    pid: int
    fence: int
    until: object


def environment_of(grid: RunningGrid) -> Mapping[str, str]:
    """The environment of the server's processes."""
    pid = grid.find("web")
    assert pid is not None
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


class Database:
    """The database of a running grid, as it is on the disk or in its server."""

    def __init__(self, grid: RunningGrid) -> None:
        self._environment = environment_of(grid)
        self._url = self._environment.get("GRID_DATABASE_URL", "")
        self._file = grid.directory / "grid.sqlite3"
        self._watch = Watch({})

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What a SELECT finds; values stand for ``%s``."""
        if self._url:
            with psycopg.connect(self._url, autocommit=True) as server:
                return server.execute(sql.encode(), values).fetchall()
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=20)) as file:
            return file.execute(sql.replace("%s", "?"), [str(value) for value in values]).fetchall()

    def lead(self) -> Lead:
        """Who leads the dispatchers."""
        [(holder, fence, until)] = self.rows("SELECT holder, fence, until FROM core_lock WHERE name = 'dispatcher'")
        return Lead(int(holder.rpartition(":")[2] or 0), fence, until)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While this lasts nobody else can write (SQLite), or write as the dispatcher that leads (PostgreSQL)."""
        if self._url:
            with psycopg.connect(self._url) as server:
                server.execute("SELECT 1 FROM core_lock FOR UPDATE")
                yield
            return
        with closing(sqlite3.connect(self._file, timeout=START_SECONDS, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                file.execute("ROLLBACK")

    def free(self) -> bool:
        """Whether nobody holds what ``locked`` takes."""
        try:
            if self._url:
                with psycopg.connect(self._url) as server:
                    server.execute("SELECT 1 FROM core_lock FOR UPDATE NOWAIT")
            else:
                with closing(sqlite3.connect(self._file, timeout=0.2, isolation_level=None)) as file:
                    file.execute("BEGIN IMMEDIATE")
                    file.execute("ROLLBACK")
        except (sqlite3.OperationalError, psycopg.errors.LockNotAvailable):
            return False
        return True

    def check(self) -> None:
        """Look whether all that must hold of the records does, and what was final at earlier looks is as it was."""
        with self._models(), transaction.atomic():
            if connection.vendor == "postgresql":
                connection.cursor().execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._watch.check()

    @contextmanager
    def _models(self) -> Iterator[None]:
        """While this lasts Django's models in the test's own process are about this database."""
        handler = ConnectionHandler({"default": dj_database_url.parse(self._url or f"sqlite:///{self._file}")})
        ours, there = connections["default"], handler["default"]
        connections["default"] = there
        try:
            # By it pytest-django refuses every use of a database that it has not made.
            with patch.object(there, "ensure_connection"), closing(there):
                there.connect()
                yield
        finally:
            connections["default"] = ours


def frozen(pid: int, database: Database) -> None:
    """SIGSTOP a process, at a moment at which it keeps nobody from writing; it is its own fault where it does."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: _state(pid) == "T")
        if database.free():
            return
        os.kill(pid, signal.SIGCONT)
        assert time.monotonic() < deadline, "it holds the database all the time"
        time.sleep(0.05)


def _state(pid: int) -> str:
    assert not ended(pid)
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
