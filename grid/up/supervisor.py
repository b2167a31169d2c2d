"""Keeps the programs of a grid running: starts them in order, restarts what dies, stops all, leaves nothing behind.

Nothing is polled: the main thread sleeps until a program ends, a signal comes, or a restart is due.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from grid.up.logfile import LogFile, copy_lines
from tasks.errors import GridError

FIRST_PAUSE_SECONDS = 0.5
# What a program died of may be mended at any moment, and work goes on within 10 s of that.
MAX_PAUSE_SECONDS = 4.0
# A program that ran for so long has not died of its start.
STEADY_SECONDS = 30.0
# At this many quick deaths in a row people are told with the last lines of the log; later only now and then.
LOOP_DEATHS = 3
READY_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1
# Loaded here, for between fork and exec nothing may be imported.
_prctl = ctypes.CDLL(None, use_errno=True).prctl

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Somebody asked for the end while the programs were being started."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program to keep running. ``ready`` tells whether it works; without it, being started is enough.

    ``ready_seconds`` bounds the wait for it, ``stop_seconds`` the time between SIGTERM and SIGKILL. ``essential``: the
    grid makes no sense without it, so that when it does not come up at all, neither does the grid.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready: Callable[[], bool] | None = None
    ready_seconds: float = 30.0
    stop_seconds: float = 5.0
    essential: bool = False
    pass_fds: tuple[int, ...] = ()


class _Ended(NamedTuple):
    """A program has ended."""

    name: str
    status: int


class _Child:
    """One program with its process (None between a death and the restart) and the history of its deaths."""

    def __init__(self, program: Program, log: LogFile) -> None:
        self.program = program
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.reader: threading.Thread | None = None
        self.started_at = 0.0
        self.restart_at: float | None = None
        self.quick_deaths = 0


class Supervisor:
    """Runs programs in the folder ``directory`` with their logs in ``directory/logs``; ``tell`` gets a line for people.

    Must live in the main thread: it listens to signals, and the kernel ends the programs when the thread that started
    them is gone (also by SIGKILL).
    """

    def __init__(self, directory: Path, tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._tell = tell
        self._children: dict[str, _Child] = {}
        self._events: queue.SimpleQueue[_Ended | None] = queue.SimpleQueue()
        self._stopping = False
        self._hurry = False

    @contextmanager
    def signals(self) -> Iterator[None]:
        """While this lasts, SIGINT, SIGTERM and SIGHUP ask for the end; a second one asks for it at once."""
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self, program: Program) -> bool:
        """Start a program and wait until it is ready; True when it is.

        Raises GridError when an essential one does not come up, Stopped when the end is asked for meanwhile.
        """
        self._check_stop()
        child = _Child(program, LogFile(self._directory / "logs" / f"{program.name}.log"))
        self._children[program.name] = child
        self._spawn(child)
        ready = self._await(child)
        if not ready and program.essential:
            self._check_stop()
            raise GridError(f"{program.name} does not come up; {self._last_words(child)}")
        return ready

    def run_once(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> str:
        """Run a short command to its end and return its standard output. Raises GridError when it fails, Stopped."""
        self._check_stop()
        log = LogFile(self._directory / "logs" / f"{name}.log")
        try:
            done = subprocess.run(
                command,
                env=dict(environment),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                start_new_session=True,
                preexec_fn=_tether(os.getpid()),
                check=False,
            )
            for line in done.stderr.splitlines(keepends=True):
                log.write(line)
            if done.returncode:
                words = "\n".join(f"  {line}" for line in log.tail())
                raise GridError(f"{name} failed with status {done.returncode} ({log.path}):\n{words}")
        finally:
            log.close()
        self._check_stop()
        return done.stdout.decode()

    def run(self) -> None:
        """Keep everything running until the end is asked for."""
        while not self._stopping:
            self._turn()

    def stop(self) -> None:
        """End all programs, the last one first; each gets its time, then it is killed."""
        self._stopping = True
        for child in reversed(self._children.values()):
            self._end(child)
            child.log.close()
        self._children.clear()

    def tail(self, name: str) -> list[str]:
        """The last lines of a program's log."""
        return self._children[name].log.tail()

    # ---------------------------------------------------------------------------------------------------- inside
    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._hurry = self._stopping
        self._stopping = True
        self._events.put(None)

    def _check_stop(self) -> None:
        if self._stopping:
            raise Stopped

    def _spawn(self, child: _Child) -> None:
        program = child.program
        child.restart_at = None
        child.started_at = time.monotonic()
        child.log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} starting {program.name}\n".encode())
        process = subprocess.Popen(
            program.command,
            env=dict(program.environment),
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # In a session of its own, so that Ctrl-C reaches only us, and the end has an order.
            start_new_session=True,
            preexec_fn=_tether(os.getpid()),
            pass_fds=program.pass_fds,
        )
        if process.stdout is None:
            raise RuntimeError("a pipe was asked for")
        child.process = process
        child.reader = threading.Thread(target=copy_lines, args=(process.stdout, child.log), daemon=True)
        child.reader.start()
        threading.Thread(target=self._watch, args=(program.name, process), daemon=True).start()

    def _watch(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self._events.put(_Ended(name, process.wait()))

    def _await(self, child: _Child) -> bool:
        ready = child.program.ready
        deadline = time.monotonic() + child.program.ready_seconds
        while ready is not None and not ready():
            if time.monotonic() > deadline:
                return False
            self._turn(READY_POLL_SECONDS)
            self._check_stop()
            if child.process is None and child.program.essential:
                return False
        return child.process is not None

    def _turn(self, at_most_seconds: float | None = None) -> None:
        """Sleep until something happens, and do what is due."""
        due = [child.restart_at for child in self._children.values() if child.restart_at is not None]
        now = time.monotonic()
        waits = [max(0.0, moment - now) for moment in due]
        if at_most_seconds is not None:
            waits.append(at_most_seconds)
        try:
            event = self._events.get(timeout=min(waits) if waits else None)
        except queue.Empty:
            event = None
        if event is not None:
            self._bury(event)
        for child in self._children.values():
            if child.restart_at is not None and child.restart_at <= time.monotonic() and not self._stopping:
                self._spawn(child)

    def _bury(self, ended: _Ended) -> None:
        child = self._children.get(ended.name)
        if child is None or child.process is None or self._stopping:
            return
        _kill_group(child.process.pid)
        if child.reader is not None:
            child.reader.join(1.0)
        child.process = None
        lived = time.monotonic() - child.started_at
        child.quick_deaths = 0 if lived >= STEADY_SECONDS else child.quick_deaths + 1
        pause = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(max(child.quick_deaths - 1, 0), 10))
        child.restart_at = time.monotonic() + pause
        how = _how(ended.status)
        child.log.write(f"--- {ended.name} {how} after {lived:.1f} s; starting it again in {pause:g} s\n".encode())
        if child.quick_deaths == LOOP_DEATHS or (child.quick_deaths > LOOP_DEATHS and child.quick_deaths % 10 == 0):
            self._tell(f"{ended.name} dies again and again ({child.quick_deaths} times); {self._last_words(child)}")
        elif child.quick_deaths < LOOP_DEATHS:
            self._tell(f"{ended.name} {how}; starting it again in {pause:g} s (log: {child.log.path})")

    def _last_words(self, child: _Child) -> str:
        lines = [line for line in child.log.tail() if not line.startswith("--- ")]
        words = "\n".join(f"  {line}" for line in lines) or "  (it said nothing)"
        return f"its last words ({child.log.path}):\n{words}"

    def _end(self, child: _Child) -> None:
        child.restart_at = None
        if child.process is None:
            return
        if child.process.poll() is None:
            child.process.terminate()
            self._outlast(child.process, child.program.stop_seconds)
        if child.process.poll() is None:
            self._tell(f"{child.program.name} does not end; killing it")
        _kill_group(child.process.pid)
        child.process.wait()
        if child.reader is not None:
            child.reader.join(1.0)
        child.process = None

    def _outlast(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        """Wait for the end of a process that was asked to end, unless people are in a hurry."""
        deadline = time.monotonic() + seconds
        while process.poll() is None and not self._hurry and time.monotonic() < deadline:
            try:
                self._events.get(timeout=max(0.01, min(0.5, deadline - time.monotonic())))
            except queue.Empty:
                continue


def _tether(parent: int) -> Callable[[], None]:
    """To be called in a new process: it is killed when its parent dies, however that dies."""

    def tether() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tether


def _kill_group(group: int) -> None:
    """End whatever a program has left behind."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _how(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
