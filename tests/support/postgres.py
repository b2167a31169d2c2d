"""A PostgreSQL server of our own in a folder that is thrown away, and a command run over it.

``python -m tests.support.postgres COMMAND...`` starts one, runs the command with ``GRID_DATABASE_URL``, and stops it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg

START_SECONDS = 20.0
USER = "postgres"
NOT_INSTALLED = 69  # EX_UNAVAILABLE of sysexits.h

# Tests lose nothing when the machine fails: no waiting for the disk. A server that is killed has written what it said.
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "deadlock_timeout": "100ms",
}


def programs() -> Path | None:
    """The folder of PostgreSQL's own programs, the newest if there are several; None when it is not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if debian:
        return debian[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class Postgres:
    """A server that listens on a socket in a folder that nobody else may enter; there is no port.

    It may be killed and started again, with what it had.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="grid-postgres-"))
        # The server refuses to run as root; Debian's package brings a user for it.
        self._user = USER if os.geteuid() == 0 else None
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgres://{USER}@{quote(str(self._folder), safe='')}/postgres"

    def start(self) -> None:
        """Start the server, at first with new data; raises RuntimeError with its words when it does not answer."""
        log = self._folder / "log"
        data = self._folder / "data"
        if not data.exists():
            options = ("--username", USER, "--auth", "trust", "--no-sync", "--encoding", "UTF8")
            self._run("initdb", "--pgdata", str(data), *options)
        settings = [f"--{name}={value}" for name, value in OPTIONS.items()]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", data, "-k", str(self._folder), *settings],
                stdout=output,
                stderr=output,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                cwd="/",
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / name, *arguments],
            capture_output=True,
            text=True,
            check=False,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
            cwd="/",
        )
        if done.returncode != 0:
            raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")

    def kill(self) -> None:
        """kill -9 the server and all its processes, as a crash of its machine does."""
        if self._process is None:
            return
        pid = self._process.pid
        # While it is stopped it makes no new ones, and does not learn that the others have died.
        self._process.send_signal(signal.SIGSTOP)
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End the server, whoever is connected, and remove its folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)


def main(command: list[str]) -> int:
    """Run the command over a server; its exit code, or 69 when PostgreSQL is not installed."""
    installed = programs()
    if installed is None:
        return NOT_INSTALLED
    server = Postgres(installed)
    try:
        server.start()
        environment = {**os.environ, "GRID_DATABASE_URL": server.url}
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
