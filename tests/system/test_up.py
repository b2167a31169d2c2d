"""``grid up`` itself: one grid to a folder, the same grid after a restart, and nothing left behind by any end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from grid import Client, NotFound

COMMAND = (sys.executable, "-c", "from grid.cli import main; main()", "up", "--no-node", "--port", "0", "--json")


class Up:
    """A running ``grid up`` on a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GRID_")}
        self.environment["GRID_CONFIG"] = str(folder.with_suffix(".toml"))
        self.process = self.start(*options)
        assert self.process.stdout is not None
        # The line comes when everything works.
        self.facts: dict[str, Any] = json.loads(self.process.stdout.readline())

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start ``grid up`` on the folder."""
        return subprocess.Popen(
            (*COMMAND, "--dir", str(self.folder), *options),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def children(self) -> list[int]:
        """The programs that it runs."""
        return [
            int(one) for one in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def end(self, number: signal.Signals) -> str:
        """Send a signal, wait for the end, and return what was told to people."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, told = self.process.communicate(timeout=40)
        return told


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts grids, and ends them after the test."""
    made: list[Up] = []

    def start(*options: str) -> Up:
        made.append(Up(tmp_path / "grid", *options))
        return made[-1]

    yield start
    for one in made:
        one.end(signal.SIGTERM)


def gone(pid: int) -> bool:
    """True when the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def test_the_same_grid_comes_back_and_nothing_stays_behind(up: Callable[..., Up]) -> None:
    first = up("--no-flower")
    token = json.loads((first.folder / "up.json").read_text())["user_token"]
    pids = first.children()
    with Client(first.facts["server"], token) as client:
        assert client.whoami()["user"] == "admin"

    second = first.start("--no-flower")
    out, told = second.communicate(timeout=40)
    assert second.returncode == 2
    assert out == ""
    assert told == (
        f"grid: a grid runs in {first.folder} already: {first.facts['server']} (process {first.process.pid})\n"
    )

    assert first.end(signal.SIGINT) == "stopping\n"
    assert first.process.returncode == 0
    assert len(pids) == 3
    assert all(gone(pid) for pid in pids)

    again = up("--no-flower")
    assert again.facts["password"] == ""
    assert again.facts["server"] == first.facts["server"]
    with Client(again.facts["server"], token) as client:
        assert client.whoami()["user"] == "admin"


def test_a_killed_supervisor_takes_its_programs_along_and_a_killed_program_comes_back(up: Callable[..., Up]) -> None:
    running = up("--no-flower")
    token = json.loads((running.folder / "up.json").read_text())["user_token"]
    (web,) = [pid for pid in running.children() if b"uvicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    os.kill(web, signal.SIGKILL)
    with Client(running.facts["server"], token) as client, pytest.raises(NotFound):
        # Nobody is refused meanwhile: the socket is the supervisor's.
        client.view("0" * 32)

    pids = running.children()
    running.end(signal.SIGKILL)
    until(lambda: all(gone(pid) for pid in pids))
    assert up("--no-flower").facts["server"] == running.facts["server"]


def test_flower_asks_for_its_password(up: Callable[..., Up]) -> None:
    facts = up().facts
    password = Path(facts["flower_password_file"]).read_text().strip()

    def status(auth: tuple[str, str] | None) -> int:
        try:
            return httpx.get(facts["flower_url"], auth=auth, timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return 0

    until(lambda: status((facts["flower_user"], password)) == 200)
    assert status(None) == 401
    assert status((facts["flower_user"], "guess")) == 401


def test_files_with_passwords_are_private(up: Callable[..., Up]) -> None:
    running = up("--no-flower")
    names = ["up.json", "admin-password", "broker/valkey.conf", "secret_key"]

    assert {name: oct((running.folder / name).stat().st_mode & 0o777) for name in names} == dict.fromkeys(
        names, "0o600"
    )
    assert Path(running.environment["GRID_CONFIG"]).stat().st_mode & 0o777 == 0o600
    for pid in running.children():
        assert b"password" not in Path(f"/proc/{pid}/cmdline").read_bytes()
