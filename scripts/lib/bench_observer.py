"""The visible part of scripts/bench_observer: every operation on both observers in turn, by the same client.

Then the deadlines of sessions of each of them, on a machine that has more than enough to do.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from bench_deadlines import Late, distribution, lateness
from rich.console import Console
from rich.table import Table

from observer.client import Client, Session
from observer.protocol import CONTENT_TYPE

Result = TypeVar("Result")
OPERATIONS = ("open", "limits", "attach", "stats", "freeze", "thaw", "close")
LIMITS = {"memory": "64M", "swap": "0", "pids": 16, "cpus": 1, "time": "60s"}
START_SECONDS = 30.0
PAUSE_SECONDS = 0.1
# What moves a process into the session, timed where it happens: in the process that is moved.
LAUNCHER = """
import socket, sys, time
request = bytes.fromhex(sys.argv[2])
begun = time.perf_counter()
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(request)
    connection.recv(1024)
print(time.perf_counter() - begun, flush=True)
time.sleep(60)
"""


def main() -> int:
    """Measure and print; always 0, for a slow machine is no fault."""
    parser = argparse.ArgumentParser()
    parser.add_argument("theirs", help="the program kolejka-observer")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--deadlines", type=int, default=40, help="sessions whose deadlines are waited for")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="observers-") as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        own = [sys.executable, "-m", "observer", "serve", "--socket", str(ours)]
        with serving(own, ours), serving([wanted.theirs, "--socket", str(theirs)], theirs):
            rounds = [both(ours, theirs, turned=bool(turn % 2)) for turn in range(wanted.rounds)]
            late = {"ours": lateness(ours, wanted.deadlines), "kolejka's": lateness(theirs, wanted.deadlines)}
    figures = {
        name: tuple(statistics.median(one[side][name] for one in rounds) * 1000 for side in (0, 1))
        for name in OPERATIONS
    }
    show(figures)
    show_late(late)
    if wanted.json:
        told: dict[str, object] = {
            name: {"ours_ms": mine, "kolejka_ms": other} for name, (mine, other) in figures.items()
        }
        told["deadlines"] = {name: [asdict(one) for one in found] for name, found in late.items()}
        wanted.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0


def both(ours: Path, theirs: Path, *, turned: bool) -> tuple[dict[str, float], dict[str, float]]:
    """One round; who is first changes, for what one does may leave the kernel busy for a while."""
    if turned:
        last = measure(theirs)
        return measure(ours), last
    return measure(ours), measure(theirs)


def measure(path: Path) -> dict[str, float]:
    """Seconds of every operation, once."""
    found: dict[str, float] = {}
    client = Client(path)
    time.sleep(PAUSE_SECONDS)
    session = timed(found, "open", client.open)
    timed(found, "limits", lambda: session.limit(**LIMITS))
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", LAUNCHER, str(path), attach_request(session).hex()], stdout=subprocess.PIPE
    )
    with child:
        if child.stdout is None:
            raise RuntimeError("no output of the launcher")
        found["attach"] = float(child.stdout.readline())
        timed(found, "stats", session.stats)
        timed(found, "freeze", session.freeze)
        timed(found, "thaw", session.thaw)
        timed(found, "close", session.close)
    return found


def timed(found: dict[str, float], name: str, work: Callable[[], Result]) -> Result:
    begun = time.perf_counter()
    result = work()
    found[name] = time.perf_counter() - begun
    return result


def attach_request(session: Session) -> bytes:
    """What the judge's launcher sends."""
    body = json.dumps({"session_id": session.id, "secret": session.secret}).encode()
    head = f"POST /attach HTTP/1.1\r\nHost: observer\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


@contextmanager
def serving(command: list[str], path: Path) -> Iterator[None]:
    """An observer that answers at ``path``."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(path):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} does not answer")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def show(figures: dict[str, tuple[float, ...]]) -> None:
    table = Table("operation", "ours", "kolejka's", "ratio")
    for name, (mine, other) in figures.items():
        table.add_row(name, f"{mine:.2f} ms", f"{other:.2f} ms", f"{mine / other:.2f}")
    Console().print(table)


def show_late(late: dict[str, list[Late]]) -> None:
    table = Table("after a deadline, all processors busy", "the program went on for", "it was gone after")
    for name, found in late.items():
        table.add_row(name, distribution([one.ran for one in found]), distribution([one.gone for one in found]))
    Console(width=140).print(table)


if __name__ == "__main__":
    sys.exit(main())
