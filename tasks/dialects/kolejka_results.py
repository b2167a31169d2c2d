"""kolejka's result JSON and ours: what its clients read of our tasks, and what its foremen report of theirs.

kolejka's result has no word for how a task ended, only an exit code and counters: what they mean is concluded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.dialects.kolejka import WARNINGS, Json
from tasks.dialects.kolejka_units import read_bytes, read_seconds, read_whole
from tasks.errors import Fault, SpecError
from tasks.limits import Limits
from tasks.outcome import Evidence, NodeFaultEvidence, Usage
from tasks.result import Result
from tasks.states import StopCause
from tasks.verdicts import Verdict
from tasks.words import shown

HARNESS_FAILED = 1
"""What kolejka gives as the exit code of a task whose program never ran."""

_DOCKER_FAILED = 128
_KILLED = 137
_OWN = (
    *("name", "verdict", "class", "reason", "advice", "node", "attempt", "image_digest", "not_enforced"),
    *("queued_at", "started_at", "finished_at"),
)


def write_result(result: Result, labels: Mapping[str, str]) -> Json:
    """A result as kolejka's programs read it, with our verdict beside; ``labels`` are the task's."""
    ours = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    limits = dict(ours["limits"])
    if "cpus" in limits:
        limits["cpus"] = max(1, -(-limits["cpus"] // 1))
        limits["cpus"] = int(limits["cpus"])
    written: Json = {
        "id": result.id,
        "tags": list(result.tags),
        "limits": limits,
        "stats": ours.get("stats", {}),
        "result": HARNESS_FAILED if result.result is None else result.result,
        "files": {name: {"reference": file.reference} for name, file in result.files.items()},
    }
    written |= {key: ours[key] for key in ("stdout", "stderr", *_OWN) if key in ours}
    return written | ({WARNINGS: labels[WARNINGS].split("; ")} if WARNINGS in labels else {})


@dataclass(frozen=True, slots=True)
class Report:
    """What a foreman says of a task that it ran; ``files`` are kolejka's references by name."""

    task: str
    exit_code: int | None
    usage: Usage
    memory_failures: int
    pids_failures: int
    files: dict[str, str]
    tags: tuple[str, ...] = ()


def read_result(data: object) -> Report:
    """A foreman's result JSON; raises SpecError with every value that cannot be read."""
    if not isinstance(data, Mapping):
        raise SpecError([Fault("", f"a result must be an object, not {shown(data)}")])
    reader = _Reader()
    stats = reader.part(data, "stats")
    cpu, memory, pids = (reader.part(stats, name) for name in ("cpu", "memory", "pids"))
    user, system = reader.seconds(cpu, "user"), reader.seconds(cpu, "system")
    report = Report(
        task=str(data.get("id") or ""),
        exit_code=reader.whole(data, "result"),
        usage=Usage(
            wall_seconds=reader.seconds(stats, "time"),
            cpu_seconds=max(reader.seconds(cpu, "usage"), user + system),
            cpu_user_seconds=user,
            cpu_system_seconds=system,
            memory_peak_bytes=reader.size(memory, "max_usage"),
            pids_peak=reader.whole(pids, "max_usage"),
        ),
        memory_failures=reader.whole(memory, "failures") or 0,
        pids_failures=reader.whole(pids, "failures") or 0,
        files=reader.files(data),
        tags=tuple(str(tag) for tag in tags) if isinstance(tags := data.get("tags"), list) else (),
    )
    if not report.task:
        reader.faults.append(Fault("id", "is missing"))
    if reader.faults:
        raise SpecError(reader.faults)
    return report


def evidence_of(report: Report, limits: Limits) -> Evidence:
    """What the exit code and the counters tell, under the limits that held."""
    if report.exit_code is None:
        return Evidence(fault=NodeFaultEvidence(kind=Verdict.RUNTIME_ERROR, message="the foreman gave no exit code"))
    if report.exit_code == _DOCKER_FAILED and not report.usage.wall_seconds:
        return Evidence(fault=NodeFaultEvidence(kind=Verdict.RUNTIME_ERROR, message="the foreman's docker failed"))
    late = limits.time is not None and report.usage.wall_seconds >= limits.time
    killed = report.exit_code == _KILLED
    peak = report.usage.memory_peak_bytes or 0
    # Its counter of failures also grows when the kernel only has to make room in the page cache.
    full = report.memory_failures > 0 and limits.memory is not None and peak >= limits.memory * 0.9
    return Evidence(
        exit_code=report.exit_code,
        stopped=StopCause.TIME_LIMIT if killed and late else None,
        oom_kills=1 if killed and full and not late else 0,
        pids_refused=report.pids_failures,
    )


class _Reader:
    """Reads values and collects what is wrong with them."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def part(self, data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        value = data.get(name)
        if value is not None and not isinstance(value, Mapping):
            self.faults.append(Fault(name, f"must be an object, not {shown(value)}"))
        return value if isinstance(value, Mapping) else {}

    def seconds(self, data: Mapping[str, Any], name: str) -> float:
        try:
            return 0.0 if data.get(name) is None else read_seconds(data[name])
        except ValueError as error:
            self.faults.append(Fault(name, str(error)))
            return 0.0

    def size(self, data: Mapping[str, Any], name: str) -> int | None:
        try:
            return None if data.get(name) is None else read_bytes(data[name])
        except ValueError as error:
            self.faults.append(Fault(name, str(error)))
            return None

    def whole(self, data: Mapping[str, Any], name: str) -> int | None:
        try:
            found = None if data.get(name) is None else read_whole(data[name])
        except ValueError as error:
            self.faults.append(Fault(name, str(error)))
            return None
        if found is not None and not -(2**31) <= found < 2**31:
            self.faults.append(Fault(name, f"{found} is out of range"))
            return None
        return found

    def files(self, data: Mapping[str, Any]) -> dict[str, str]:
        found = {}
        for name, source in self.part(data, "files").items():
            reference = source.get("reference") if isinstance(source, Mapping) else None
            if not reference:
                self.faults.append(Fault(f"files.{name}", f"File {name} does not have a reference"))
            found[name] = str(reference)
        return found
