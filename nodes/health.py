"""What a node says of itself: its facts, whether it can take work, which images it has; looked at from time to time."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nodes.journal import event
from tasks.errors import NodeFault
from tasks.order import Capacity, Facts, Foreign
from tasks.units import human_seconds, human_size

# Where no registry can be reached, an image that was just made is refused until it was seen here.
INTERVAL_SECONDS = 5.0
# An engine that takes requests and does not answer them holds up the look; a busy machine does so for a while.
LOOK_SECONDS = 10.0
HUNG = "the container engine does not answer"
MIN_FREE_BYTES = 256 * 1024**2
MIN_FREE_FILES = 1000
# Tasks read the clock, and what they sign, build or log is wrong with it. The grid itself does not rely on it.
MAX_CLOCK_OFFSET_SECONDS = 300.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HealthState:
    """``problem`` is why the node takes no work, empty when it does; ``foreign`` is what others use of what it offers.

    The rest is None when unchanged.
    """

    problem: str
    foreign: Foreign
    new_images: tuple[str, ...] | None
    new_registry: bool | None
    new_details: dict[str, str] | None


class Health:
    """Looks at the node in a thread of its own, because an engine that hangs must not hold up the heartbeat.

    ``gather`` finds the facts, and raises ``NodeFault`` when the runtime does not answer; so does the first look, here.
    ``clock_offset`` tells how many seconds the clock is ahead of the server's, None while nobody knows; ``foreign``
    what others use of what the node offers, nothing where the node is the grid's own.
    """

    def __init__(
        self,
        gather: Callable[[], Facts],
        directory: Path,
        clock_offset: Callable[[], float | None] = lambda: None,
        foreign: Callable[[Capacity], Foreign] = lambda offered: Foreign(),
    ) -> None:
        self._gather = gather
        self._directory = directory
        self._clock_offset = clock_offset
        self._lock = threading.Lock()
        self._measure = foreign
        self._problem = ""
        self._looking_since: float | None = None
        self._facts = gather()
        self._foreign = foreign(self._facts.capacity)
        self._told = self._state("", Foreign(), self._facts)
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="health", daemon=True)

    def start(self) -> None:
        """Start to look, at once: now the server has told the time."""
        self._wake.set()
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        self._wake.set()

    def look_now(self) -> None:
        """Something went wrong, or an image came: look at once."""
        self._wake.set()

    def facts(self) -> Facts:
        """The facts as they were found last."""
        with self._lock:
            self._told = self._state(self._told.problem, Foreign(), self._facts)
            return self._facts

    @property
    def changed(self) -> bool:
        """True when the server should hear of a change soon."""
        with self._lock:
            return self._state(self._current(), self._foreign, self._facts) != self._told

    def state(self) -> HealthState:
        """What a heartbeat says of the node's health."""
        with self._lock:
            facts, told = self._facts, self._told
            return HealthState(
                self._current(),
                self._foreign,
                facts.images if facts.images != told.new_images else None,
                facts.registry if facts.registry != told.new_registry else None,
                facts.details if facts.details != told.new_details else None,
            )

    def told(self, state: HealthState) -> None:
        """The server has heard ``state``."""
        with self._lock:
            told = self._told
            self._told = HealthState(
                state.problem,
                state.foreign,
                told.new_images if state.new_images is None else state.new_images,
                told.new_registry if state.new_registry is None else state.new_registry,
                told.new_details if state.new_details is None else state.new_details,
            )

    def _current(self) -> str:
        """What is wrong as far as is known, also while the look at it does not come to an end."""
        since = self._looking_since
        return HUNG if since is not None and time.monotonic() - since > LOOK_SECONDS else self._problem

    @staticmethod
    def _state(problem: str, foreign: Foreign, facts: Facts) -> HealthState:
        """All of it, as if the server knew nothing."""
        return HealthState(problem, foreign, facts.images, facts.registry, facts.details)

    def _loop(self) -> None:
        while not self._closed.is_set():
            self._wake.wait(INTERVAL_SECONDS)
            self._wake.clear()
            if not self._closed.is_set():
                self._look()

    def _look(self) -> None:
        problem, facts, foreign = "", None, None
        with self._lock:
            self._looking_since = time.monotonic()
        try:
            facts = self._gather()
            foreign = self._measure(facts.capacity)
            problem = _disk_problem(self._directory) or clock_problem(self._clock_offset())
        except NodeFault as error:
            problem = error.message
        except OSError as error:
            problem = f"{self._directory}: {error.strerror}"
        with self._lock:
            if problem != self._problem:
                _log.warning(event("not_ready" if problem else "ready", message=problem))
            self._problem, self._looking_since = problem, None
            self._facts = facts or self._facts
            if foreign is not None and foreign != self._foreign:
                _log.info(event("others", cpus=foreign.cpus, memory=human_size(foreign.memory)))
                self._foreign = foreign


def clock_problem(offset_seconds: float | None) -> str:
    """What is wrong with a clock that is so far ahead of the server's; empty when it is near enough."""
    if offset_seconds is None or abs(offset_seconds) <= MAX_CLOCK_OFFSET_SECONDS:
        return ""
    where = "ahead of" if offset_seconds > 0 else "behind"
    return f"its clock is {human_seconds(float(round(abs(offset_seconds))))} {where} the server's"


def _disk_problem(directory: Path) -> str:
    disk = os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    if free < MIN_FREE_BYTES:
        return f"only {human_size(free)} are free on the disk of {directory}"
    # Some file systems have no fixed number of files, and say 0 of 0.
    if disk.f_files and disk.f_favail < MIN_FREE_FILES:
        return f"only {disk.f_favail} more files fit on the disk of {directory}"
    return ""
