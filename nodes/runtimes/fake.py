"""A runtime for tests and trials: jobs are plain processes, or nothing at all. It protects nobody from them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from nodes.imagecache import Image
from nodes.images import Progress
from nodes.runtimes import Capabilities, Exit, Job, Stop
from tasks.errors import NodeFault
from tasks.outcome import Usage
from tasks.states import StopCause

_POLL_SECONDS = 0.005
_ENFORCED = frozenset({"time", "output", "network", "memory", "swap", "cpus", "pids", "cpu_time"})

Program = Callable[[Job, Stop], Exit]


def succeed(job: Job, stop: Stop) -> Exit:
    """A program that does nothing, in no time."""
    job.stdout.touch()
    job.stderr.touch()
    return Exit(exit_code=0, usage=Usage())


def subprocess_program(job: Job, stop: Stop) -> Exit:
    """Run the job's arguments as a process in its workspace, as whoever we are; of the limits only the time is kept."""
    began = time.monotonic()
    with contextlib.ExitStack() as files:
        stdin = files.enter_context(job.stdin.open("rb")) if job.stdin is not None else subprocess.DEVNULL
        stdout = files.enter_context(job.stdout.open("ab"))
        stderr = subprocess.STDOUT if job.stderr == job.stdout else files.enter_context(job.stderr.open("ab"))
        try:
            process = subprocess.Popen(
                job.args,
                cwd=job.workspace,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(job.workspace), **job.environment},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            return Exit(exit_code=code, usage=Usage(), start_error=f"{job.args[0]}: {error.strerror}")
        acted = _hold(process, job, stop, began)
    code = process.wait()
    cut, total = _cut(job)
    return Exit(
        exit_code=code if code >= 0 else 128 - code,
        usage=Usage(wall_seconds=time.monotonic() - began),
        stopped=stop.cause if acted else None,
        stop_reason=stop.reason if acted else "",
        output_bytes=total,
        output_cut_bytes=cut,
    )


class FakeRuntime:
    """Keeps what it is asked for: ``runs`` counts the runs of each attempt, ``killed`` and ``kept`` the other verbs.

    ``program`` does the running, ``programs`` does it for tasks of these ids. ``faults`` are raised instead, each once.
    A job that is asked for again while it runs, or after it ended, is not run again, as the seam wants it.
    """

    def __init__(self, program: Program = succeed, programs: Mapping[str, Program] | None = None) -> None:
        self.program = program
        self.programs = dict(programs or {})
        self.faults: list[NodeFault] = []
        self.answers = True
        self.runs: Counter[str] = Counter()
        self.killed: list[str] = []
        self.kept: list[frozenset[str]] = []
        self._exits: dict[str, Exit] = {}
        self._stops: dict[str, Stop] = {}
        self._changed = threading.Condition()

    def probe(self) -> Capabilities:
        """All limits are said to be enforced. Raises NodeFault while ``answers`` is False."""
        if not self.answers:
            raise NodeFault("runtime_error", "the runtime was told not to answer")
        return Capabilities(runtime="docker", enforces=_ENFORCED, details={"engine": "fake"})

    def run(self, job: Job, stop: Stop) -> Exit:
        """Run the job's program, once."""
        with self._changed:
            if job.attempt in self._stops:
                self._changed.wait_for(lambda: job.attempt in self._exits)
                return self._exits[job.attempt]
            if self.faults:
                raise self.faults.pop(0)
            self.runs[job.attempt] += 1
            self._stops[job.attempt] = stop
        end = self.programs.get(job.task, self.program)(job, stop)
        with self._changed:
            self._exits[job.attempt] = end
            self._changed.notify_all()
        return end

    def kill(self, attempt: str) -> None:
        """End the attempt's program, if it runs."""
        self.killed.append(attempt)
        stop = self._stops.get(attempt)
        if stop is not None:
            stop.request(StopCause.LEASE_LOST, "killed")

    def reap(self, keep: Collection[str]) -> tuple[str, ...]:
        """Forget all ended attempts but these."""
        self.kept.append(frozenset(keep))
        with self._changed:
            gone = sorted(attempt for attempt in self._exits if attempt not in keep)
            for attempt in gone:
                del self._exits[attempt], self._stops[attempt]
        return tuple(gone)


class FakeImages:
    """Images that are there, and such that can be fetched in ``delay_seconds``; ``pulls`` counts.

    Those ``in_use`` cannot be removed; ``sizes`` are in bytes.
    """

    def __init__(self, there: Collection[str] = (), registry: Collection[str] = (), delay_seconds: float = 0.0) -> None:
        self.there = set(there)
        self.registry = set(registry)
        self.pulls: Counter[str] = Counter()
        self.in_use: set[str] = set()
        self.sizes: dict[str, int] = {}
        self._delay_seconds = delay_seconds

    def find(self, reference: str) -> Image | None:
        """The image, if it is there."""
        if reference not in self.there:
            return None
        return Image(f"sha256:{reference}", f"{reference}@sha256:0", self.sizes.get(reference, 0))

    def pull(self, reference: str, progress: Progress) -> None:
        """Fetch it. Raises NodeFault when the registry does not have it."""
        self.pulls[reference] += 1
        time.sleep(self._delay_seconds)
        if reference not in self.registry:
            raise NodeFault("image_not_found", f"{reference}: manifest unknown")
        self.there.add(reference)

    def references(self) -> tuple[str, ...]:
        """The images that are there."""
        return tuple(sorted(self.there))

    def remove(self, reference: str) -> bool:
        """Remove it; False when it is in use, or not there."""
        if reference in self.in_use or reference not in self.there:
            return False
        self.there.discard(reference)
        return True


def _hold(process: subprocess.Popen[bytes], job: Job, stop: Stop, began: float) -> bool:
    """Wait for the process; True when it was ended by us."""
    acted = False
    while process.poll() is None:
        if job.limits.time is not None and time.monotonic() - began >= job.limits.time:
            stop.request(StopCause.TIME_LIMIT, "its time is over")
        if stop.requested:
            acted = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return acted


def _cut(job: Job) -> tuple[int, int]:
    """Shorten the output to its limit; return the bytes cut and the bytes that were written."""
    paths: tuple[Path, ...] = tuple(dict.fromkeys((job.stdout, job.stderr)))
    sizes = [path.stat().st_size for path in paths]
    left = sum(sizes) if job.limits.output is None else job.limits.output
    kept = 0
    for path, size in zip(paths, sizes, strict=True):
        keep = min(size, left - kept)
        os.truncate(path, keep)
        kept += keep
    return sum(sizes) - kept, sum(sizes)
