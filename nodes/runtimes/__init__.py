"""The seam between a node and whatever runs programs: a job goes in, an exit comes out."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tasks.limits import Limits
from tasks.outcome import Usage
from tasks.profiles import Profile
from tasks.states import StopCause


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a runtime offers on this machine: ``enforces`` names limits, ``tags`` what tasks may require of it."""

    runtime: str
    enforces: frozenset[str]
    tags: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt, ready to run: files are staged in ``workspace``, the image is present under ``image``.

    ``stdin`` is a host file or None. ``stdout`` and ``stderr`` are host files to write; the same path means merged.
    At most ``limits.output`` bytes of both together are kept, the rest is read, counted and thrown away.
    ``cores`` are the pinned cpu numbers, empty for none. ``uid`` and ``gid`` own the workspace, and the program runs as
    them. ``observer`` is the socket of the node's observer, for the profile ``judge`` only.
    """

    attempt: str
    task: str
    node: str
    image: str
    args: tuple[str, ...]
    environment: Mapping[str, str]
    limits: Limits
    workspace: Path
    stdout: Path
    stderr: Path
    stdin: Path | None = None
    cores: tuple[int, ...] = ()
    uid: int = 65532
    gid: int = 65532
    profile: Profile = Profile.STANDARD
    observer: Path | None = None


class Stop:
    """A thread-safe request to end a running job; the first cause given stays."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self.cause: StopCause | None = None
        self.reason = ""

    def request(self, cause: StopCause, reason: str) -> bool:
        """Ask for the end; return False when somebody asked before."""
        with self._lock:
            if self.cause is not None:
                return False
            self.cause, self.reason = cause, reason
            self._event.set()
            return True

    @property
    def requested(self) -> bool:
        """True once the end was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for a request; return whether there is one."""
        return self._event.wait(seconds)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a job ended, as facts; see ``tasks.outcome.Evidence`` for the meaning of the fields."""

    exit_code: int | None
    usage: Usage
    start_error: str = ""
    stopped: StopCause | None = None
    stop_reason: str = ""
    oom_kills: int = 0
    pids_refused: int = 0
    storage_full: bool = False
    files_full: bool = False
    output_bytes: int = 0
    output_cut_bytes: int = 0
    not_enforced: tuple[str, ...] = ()


class Runtime(Protocol):
    """Runs jobs. Faults of the runtime itself are raised as ``tasks.errors.NodeFault``."""

    def probe(self) -> Capabilities:
        """Say what this machine offers, or raise ``NodeFault`` when the runtime does not answer."""

    def run(self, job: Job, stop: Stop) -> Exit:
        """Run ``job`` to its end under its limits; a job whose attempt is already there is adopted, not run again."""

    def kill(self, attempt: str) -> None:
        """End the job of ``attempt`` at once, if there is one; what a former start of the node left is removed."""

    def reap(self, keep: Collection[str]) -> tuple[str, ...]:
        """Remove what was left behind by attempts that are not in ``keep``; return their ids."""
