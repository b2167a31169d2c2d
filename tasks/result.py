"""The result of a task, ``result.json``: what kolejka's readers expect, and the verdict, the times and the proof."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ConfigDict, Field

from tasks.limits import Limits
from tasks.model import Record
from tasks.outcome import Outcome, PhaseTimes, Usage
from tasks.spec import TaskSpec, spec_hash
from tasks.verdicts import Judgement, Verdict, VerdictClass

_SIZES = ("memory", "swap", "storage", "output", "gpu_memory")
_TIMES = ("time", "cpu_time")


class CpuStats(Record):
    """Processor time in kolejka's spelling (``"0.2s"``)."""

    usage: str
    user: str
    system: str


class MemoryStats(Record):
    """Memory peak in kolejka's spelling (``"1024b"``) and how often a process was killed for want of memory."""

    max_usage: str | None = None
    failures: int = 0


class PidsStats(Record):
    """Most processes and threads at one time, and how many were refused."""

    max_usage: int | None = None
    failures: int = 0


class Stats(Record):
    """Resource use as kolejka has it; ``usage`` of the result has more, in plain numbers."""

    cpu: CpuStats
    memory: MemoryStats
    pids: PidsStats
    time: str


class ResultFile(Record):
    """A file that came back: ``reference`` is its blob on the server, ``path`` its place in a downloaded folder."""

    path: str | None = None
    reference: str | None = None
    size: int = 0
    executable: bool = False


class Provenance(Record):
    """What exactly ran: the hash of the description and the sha256 of each input file by name."""

    spec_hash: str
    inputs: Mapping[str, str] = {}


class Result(Record):
    """How a task ended and what it left.

    The first block is read by kolejka's programs too: ``limits`` and ``stats`` are in kolejka's units, ``result`` is
    the exit code (None when the program never ran). In JSON, ``verdict_class`` is called ``class``. Times are ISO 8601
    in UTC.
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    id: str
    tags: tuple[str, ...] = ()
    limits: Mapping[str, bool | int | float | str] = {}
    stats: Stats | None = None
    result: int | None = None
    stdout: str | None = None
    stderr: str | None = None
    files: Mapping[str, ResultFile] = {}

    name: str = ""
    verdict: Verdict
    verdict_class: VerdictClass = Field(alias="class")
    reason: str
    advice: str = ""
    attempt: int = 0
    attempt_id: str = ""
    node: str = ""
    image_digest: str = ""
    queued_at: str
    started_at: str | None = None
    finished_at: str
    phases: PhaseTimes = PhaseTimes()
    usage: Usage = Usage()
    not_enforced: tuple[str, ...] = ()
    provenance: Provenance

    @property
    def exit_code(self) -> int | None:
        """The exit code of the program, under the name that people look for."""
        return self.result

    @property
    def succeeded(self) -> bool:
        """True when the verdict is ``succeeded``."""
        return self.verdict_class is VerdictClass.SUCCESS


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """The task's part in its result; times are aware. The files of ``spec`` are references or content."""

    id: str
    spec: TaskSpec
    queued_at: datetime
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The last attempt's part; ``number`` counts from 1, ``outcome`` is None when the node never reported."""

    id: str
    number: int
    node: str
    tags: tuple[str, ...] = ()
    started_at: datetime | None = None
    outcome: Outcome | None = None


def build_result(task: TaskFacts, run: RunFacts | None, judgement: Judgement) -> Result:
    """The result from its parts; ``run`` is None for a task that was never sent to a node."""
    outcome = run.outcome if run else None
    started_at = run.started_at if run else None
    result = Result(
        id=task.id,
        name=task.spec.name,
        stdout=task.spec.stdout,
        stderr=task.spec.stderr,
        verdict=judgement.verdict,
        verdict_class=judgement.verdict_class,
        reason=judgement.reason,
        advice=judgement.advice,
        queued_at=_utc(task.queued_at),
        started_at=_utc(started_at) if started_at else None,
        finished_at=_utc(task.finished_at),
        phases=_phases(task, run),
        provenance=Provenance(spec_hash=spec_hash(task.spec), inputs=input_hashes(task.spec)),
    )
    about: dict[str, object] = {}
    if run:
        about |= {"tags": run.tags, "attempt": run.number, "attempt_id": run.id, "node": run.node}
    if outcome:
        about |= _of_outcome(outcome)
    return result.model_copy(update=about)


def input_hashes(spec: TaskSpec) -> dict[str, str]:
    """The sha256 of each input file by name; files that are still only a path have none."""
    hashes = {}
    for name, source in spec.files.items():
        if source.reference is not None:
            hashes[name] = source.reference
        elif source.content is not None:
            hashes[name] = hashlib.sha256(source.content.encode()).hexdigest()
    return hashes


def kolejka_limits(limits: Limits) -> dict[str, bool | int | float | str]:
    """The limits that were said, in kolejka's units: ``{"memory": "67108864b", "time": "1.0s", "cpus": 1}``."""
    said = limits.model_dump(exclude_none=True)
    for name in _SIZES:
        if name in said:
            said[name] = f"{said[name]}b"
    for name in _TIMES:
        if name in said:
            said[name] = _seconds(said[name])
    if limits.cpus is not None and limits.cpus % 1 == 0:
        # kolejka knows whole processors only and reads this with int().
        said["cpus"] = int(limits.cpus)
    return said


def _of_outcome(outcome: Outcome) -> dict[str, object]:
    files = {
        file.path: ResultFile(reference=file.sha256, size=file.size, executable=file.executable)
        for file in outcome.files
    }
    return {
        "limits": kolejka_limits(outcome.limits),
        "stats": _stats(outcome),
        "result": outcome.evidence.exit_code,
        "files": files,
        "image_digest": outcome.image_digest,
        "usage": outcome.usage,
        "not_enforced": outcome.not_enforced,
    }


def _stats(outcome: Outcome) -> Stats:
    usage, evidence = outcome.usage, outcome.evidence
    peak = usage.memory_peak_bytes
    return Stats(
        cpu=CpuStats(
            usage=_seconds(usage.cpu_seconds),
            user=_seconds(usage.cpu_user_seconds),
            system=_seconds(usage.cpu_system_seconds),
        ),
        memory=MemoryStats(max_usage=None if peak is None else f"{peak}b", failures=evidence.oom_kills),
        pids=PidsStats(max_usage=usage.pids_peak, failures=evidence.pids_refused),
        time=_seconds(usage.wall_seconds),
    )


def _phases(task: TaskFacts, run: RunFacts | None) -> PhaseTimes:
    """The node's phases, with the wait in the queue added where nobody filled it in."""
    phases = run.outcome.phases if run and run.outcome else PhaseTimes()
    if run and run.started_at and not phases.queue:
        waited = (run.started_at - task.queued_at).total_seconds()
        phases = phases.model_copy(update={"queue": max(0.0, waited)})
    return phases


def _seconds(seconds: float) -> str:
    """kolejka's spelling, to the microsecond: ``1.0s``, ``0.25s``."""
    digits = f"{seconds:.6f}".rstrip("0")
    return f"{digits}0s" if digits.endswith(".") else f"{digits}s"


def _utc(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
