"""Running a task of the grid again on this machine, with its exact inputs and image, and comparing what came of it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from grid.client import Client
from grid.handle import Task
from grid.lone import Job, Ways, run, save, secrets_here
from tasks.errors import Conflict, GridError, NotFound
from tasks.limits import Limits
from tasks.order import StagedFile
from tasks.result import Result
from tasks.spec import TaskSpec, parse_spec

_SHORT = 12
ABSENT = "-"
_STREAMS = ("stdout", "stderr")

Traits = dict[str, str]
"""What is compared of a run, by name: the verdict, the exit code, the image, and the hash of each output."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was compared; ``again`` is that of the second run here, None when there was none."""

    what: str
    grid: str
    here: str
    again: str | None = None

    @property
    def same(self) -> bool:
        """True when it was the same in the grid and here."""
        return self.grid == self.here

    @property
    def repeats(self) -> bool:
        """True unless the two runs here differ in it."""
        return self.again is None or self.again == self.here


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of a replay, ``rows`` with verdict and exit code first."""

    task: str
    rows: tuple[Row, ...]
    result: Result

    @property
    def same(self) -> bool:
        """True when nothing differs, between the grid and here or between the runs here."""
        return all(row.same and row.repeats for row in self.rows)

    @property
    def varying(self) -> tuple[str, ...]:
        """What two runs on this very machine do not agree about."""
        return tuple(row.what for row in self.rows if not row.repeats)


def replay(client: Client, task: Task, ways: Ways, *, twice: bool = False, into: Path | None = None) -> Comparison:
    """Run an ended task again, here, and compare; with ``into`` the result is also written into this new folder.

    Raises Conflict when it has not ended or never ran, GridError when it cannot be fetched or run.
    """
    record = task.result().record
    with tempfile.TemporaryDirectory(prefix="grid-replay-") as scratch:
        folder = Path(scratch)
        job = fetch(client, task, record, folder / "inputs")
        grid = _of_grid(task, record, job.spec)
        here = _run(job, ways, folder / "first")
        if into is not None:
            save(job, here[0], folder / "first", into)
        silent = replace(ways, echo=False, shell=False)
        again = _run(job, silent, folder / "second")[1] if twice else None
    return Comparison(task.id, tuple(_rows(grid, here[1], again)), here[0])


def fetch(client: Client, task: Task, record: Result, folder: Path) -> Job:
    """The task as it ran last, its inputs in ``folder``. Raises Conflict, NotFound, GridError."""
    if not record.image_digest or not record.limits:
        raise Conflict(f"task {task.id} never came as far as to its program; there is nothing to run again")
    spec = parse_spec(client.spec(task.id), default_name=task.name)
    folder.mkdir(parents=True)
    sizes = {sha256: _input(client, sha256, folder / sha256) for sha256 in set(record.provenance.inputs.values())}
    files = tuple(
        StagedFile(path=name, sha256=sha256, size=sizes[sha256], executable=bool(spec.files[name].executable))
        for name, sha256 in record.provenance.inputs.items()
    )
    return Job(
        id=task.id,
        spec=spec.model_copy(update={"image": record.image_digest}),
        limits=Limits.model_validate(record.limits),
        files=files,
        contents={sha256: str(folder / sha256) for sha256 in sizes},
        secrets=secrets_here(spec),
    )


def _input(client: Client, sha256: str, path: Path) -> int:
    """Fetch an input; its size. Raises GridError when it comes in broken, NotFound when it is kept no more."""

    def take(response: httpx.Response) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as out:
            for chunk in response.iter_bytes():
                digest.update(chunk)
                size += out.write(chunk)
        return digest.hexdigest(), size

    found, size = client.blob(sha256, take)
    if found != sha256:
        raise GridError(f"the content {sha256} came in broken from {client.server}")
    return size


def _run(job: Job, ways: Ways, keep: Path) -> tuple[Result, Traits]:
    result = run(job, ways, keep)
    logs = {name: _hash(keep / "logs" / name) for name in _unnamed(job.spec)}
    return result, _traits(result, logs)


def _of_grid(task: Task, record: Result, spec: TaskSpec) -> Traits:
    logs = {}
    for name in _unnamed(spec):
        digest = hashlib.sha256()
        with _maybe_gone():
            for chunk in task.log_bytes(stream=name):
                digest.update(chunk)
        logs[name] = digest.hexdigest()
    return _traits(record, logs)


@contextmanager
def _maybe_gone() -> Iterator[None]:
    """Logs are kept for as long as the operator wants; one that is gone counts as empty."""
    try:
        yield
    except NotFound:
        return


def _unnamed(spec: TaskSpec) -> tuple[str, ...]:
    """The streams that are in the log only."""
    merged = spec.stdout is not None and spec.stdout == spec.stderr
    return () if merged else tuple(name for name in _STREAMS if getattr(spec, name) is None)


def _traits(result: Result, logs: Mapping[str, str]) -> Traits:
    found = {
        "verdict": str(result.verdict),
        "exit code": ABSENT if result.exit_code is None else str(result.exit_code),
        "image": result.image_digest,
    }
    files = {
        f"file {name}": _said(one.reference or "", executable=one.executable) for name, one in result.files.items()
    }
    return found | files | {f"log {name}": sha256 for name, sha256 in logs.items()}


def _said(sha256: str, *, executable: bool) -> str:
    return f"{sha256} (program)" if executable else sha256


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    if path.exists():
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def _rows(grid: Traits, here: Traits, again: Traits | None) -> Iterator[Row]:
    names = dict.fromkeys((*grid, *here, *(again or ())))
    for name in names:
        second = None if again is None else again.get(name, ABSENT)
        yield Row(name, grid.get(name, ABSENT), here.get(name, ABSENT), second)


def short(trait: str) -> str:
    """A hash as people read it: its beginning."""
    head, _, rest = trait.partition(" ")
    digest = head.rpartition(":")[2]
    return f"{digest[:_SHORT]} {rest}".strip() if len(digest) == 64 else trait
