"""How late an observer ends sessions whose time is over, while every processor has more than enough to do.

In each session a program computes, and writes down the time all along: what it wrote last, against the deadline, is for
how long it went on. When it was gone is noticed by a descriptor of it, in a process of high priority; a killed process
needs a processor once more to die, and waits while the kernel moves anybody's process between groups.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from observer.client import Client, Session

BURNERS_PER_PROCESSOR = 2
AT_ONCE = 4
LOOKS = 5
SHORTEST_SECONDS, LONGEST_SECONDS = 0.5, 1.0
MOST_LATE_SECONDS = 20.0
BURNER = "while True: pass"
CLOCK = struct.Struct("d")
PROGRAM = """
import mmap, struct, sys, time
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 8) as told:
    while True:
        told[:8] = struct.pack("d", time.monotonic())
"""
PRIORITY = -20


@dataclass(frozen=True, slots=True)
class Late:
    """Milliseconds after its deadline: how long a program still ``ran``, and when it was ``gone``."""

    ran: float
    gone: float


@dataclass(slots=True)
class Program:
    """A program in a session; ``due`` is the monotonic time of its deadline."""

    session: Session
    process: subprocess.Popen[bytes]
    clock: Path
    descriptor: int
    due: float = 0.0

    def wrote(self) -> float:
        """The last time that it wrote down."""
        with self.clock.open("rb") as file, mmap.mmap(file.fileno(), CLOCK.size, access=mmap.ACCESS_READ) as told:
            return float(CLOCK.unpack(told[: CLOCK.size])[0])


def lateness(path: Path, sessions: int) -> list[Late]:
    """Of so many sessions of the observer at ``path``."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with burning():
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        try:
            found: list[Late] = []
            while len(found) < sessions:
                found += together(Client(path, timeout_seconds=60.0))
        finally:
            os.setpriority(os.PRIO_PROCESS, 0, before)
    return found


def distribution(milliseconds: list[float]) -> str:
    """Median, 99th percentile and worst, for people."""
    p99 = statistics.quantiles(milliseconds, n=100, method="inclusive")[98]
    return f"median {statistics.median(milliseconds):.1f}, p99 {p99:.1f}, worst {max(milliseconds):.1f} ms"


@contextlib.contextmanager
def burning() -> Iterator[None]:
    """Keep every processor busy."""
    command = [sys.executable, "-S", "-c", BURNER]
    burners = [subprocess.Popen(command) for _ in range(BURNERS_PER_PROCESSOR * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for one in burners:
            one.kill()
            one.wait()


def together(client: Client) -> list[Late]:
    """How late each of some sessions was ended, whose deadlines are near one another."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        programs = [stack.enter_context(running(client, folder / str(turn))) for turn in range(AT_ONCE)]
        opened = [max(opened_at(one.session) for _ in range(LOOKS)) for one in programs]
        for one, since in zip(programs, opened, strict=True):
            one.due = time.monotonic() + random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)  # noqa: S311 - no secret
            one.session.limit(time=one.due - since)
        return list(ends({one.descriptor: one for one in programs}))


def opened_at(session: Session) -> float:
    """When a session was opened, or somewhat earlier: by as much as a request takes to arrive."""
    asked = time.monotonic()
    return asked - float(str(session.stats()["time"]).rstrip("s"))


def ends(programs: dict[int, Program]) -> Iterator[Late]:
    """Wait for the end of one after the other."""
    waiting = select.poll()
    for descriptor in programs:
        waiting.register(descriptor, select.POLLIN)
    while programs:
        found = waiting.poll(MOST_LATE_SECONDS * 1000)
        now = time.monotonic()
        if not found:
            sys.exit(f"{len(programs)} sessions were not ended within {MOST_LATE_SECONDS:.0f} s")
        for descriptor, _ in found:
            waiting.unregister(descriptor)
            one = programs.pop(descriptor)
            yield Late(max(0.0, one.wrote() - one.due) * 1000, (now - one.due) * 1000)


@contextlib.contextmanager
def running(client: Client, clock: Path) -> Iterator[Program]:
    """A program in a session of its own; of usual priority, as a judge's are."""
    clock.write_bytes(bytes(CLOCK.size))
    session = client.open()

    def enter() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        session.attach()

    process = subprocess.Popen([sys.executable, "-S", "-c", PROGRAM, str(clock)], preexec_fn=enter)
    descriptor = os.pidfd_open(process.pid)
    try:
        yield Program(session, process, clock, descriptor)
    finally:
        os.close(descriptor)
        process.kill()
        process.wait()
