"""What a soak does, as pure functions of its seed: which tasks are submitted, and which faults come when."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

IMAGE = "busybox:local"
LIMITS: Mapping[str, object] = {
    "memory": "16M",
    "swap": 0,
    "cpus": 0.25,
    "pids": 32,
    "time": "30s",
    "storage": "8M",
    "files": 64,
    "output": "64k",
}
# Seconds between two faults, on average; fewer would leave parts of the grid no time to come up at all.
FAULT_PAUSE_SECONDS = 2.5
LARGE_BYTES = 400_000


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of task: what it runs, and the verdict that it must have when neither a cancel nor the grid interferes.

    ``attempts`` is how often its program may run to its end: more than once only where the task asks for retries.
    ``after`` names the kind of the task that it waits for. ``weight`` is how many there are of it.
    """

    name: str
    weight: int
    script: str
    verdict: str
    exit_code: int | None = None
    attempts: int = 1
    after: str = ""
    spec: Mapping[str, Any] | None = None


_FILES = "cat in.txt > out.txt; cat in.txt; sleep {pause}"
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("succeed", 38, _FILES, "succeeded", 0, spec={"collect": [{"glob": "out.txt"}], "stdout": "stdout.txt"}),
        Kind("long", 3, "sleep 5; echo done", "succeeded", 0),
        Kind(
            "large", 5, f"head -c {LARGE_BYTES} /dev/urandom > out", "succeeded", 0, spec={"collect": [{"glob": "out"}]}
        ),
        Kind("exit_code", 12, "echo broken >&2; sleep {pause}; exit 3", "exit_code", 3),
        Kind("time_limit", 5, "sleep 60", "time_limit", spec={"limits": {"time": "1s"}}),
        Kind("memory_limit", 5, "exec tail /dev/zero", "memory_limit"),
        Kind(
            "missing_output",
            6,
            "echo nothing; sleep {pause}",
            "missing_output",
            spec={"collect": [{"glob": "never.txt", "required": True}]},
        ),
        Kind("retried", 5, "sleep 0.2; exit 4", "exit_code", 4, attempts=3, spec={"retry": {"attempts": 3}}),
        Kind("dependent", 14, "echo after; sleep {pause}", "succeeded", 0, after="succeed"),
        Kind("in_vain", 5, "echo never", "skipped", attempts=0, after="exit_code"),
    )
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when it comes, what it is, which of the like parts it strikes, and how long it lasts."""

    at_seconds: float
    kind: str
    target: int
    seconds: float


# Weight, and the least and most seconds that it lasts.
FAULTS: Mapping[str, tuple[int, float, float]] = {
    "node killed": (14, 0.0, 4.0),
    "node frozen": (8, 0.5, 6.0),
    "node stopped": (5, 0.0, 2.0),
    "network cut": (8, 0.5, 6.0),
    "network half-open": (6, 0.5, 6.0),
    "network torn mid-message": (8, 0.0, 1.0),
    "broker killed": (5, 0.0, 2.0),
    "broker emptied": (5, 0.0, 2.0),
    "broker frozen": (4, 0.5, 5.0),
    "web server killed": (7, 0.0, 0.0),
    "web server frozen": (4, 0.3, 4.0),
    "dispatcher killed": (7, 0.0, 2.0),
    "dispatcher frozen": (6, 0.5, 6.0),
    "whole server killed": (2, 0.0, 1.0),
    "server killed in an upload": (3, 0.1, 0.1),
    "database locked": (4, 0.5, 7.0),
    "node drained": (5, 1.0, 5.0),
    "node cordoned": (2, 1.0, 4.0),
    "messages repeated": (8, 0.0, 0.0),
    "messages forged": (6, 0.0, 0.0),
    "outcomes forged": (6, 0.0, 0.0),
    "client killed": (3, 0.0, 0.0),
}


def faults(seed: int, seconds: float) -> list[Fault]:
    """The faults of a soak that long, in order; the first comes after a while of peace."""
    chance = random.Random(f"faults {seed}")  # noqa: S311 - chosen for its repeatability
    names = list(FAULTS)
    weights = [FAULTS[name][0] for name in names]
    found: list[Fault] = []
    at = 2.0
    while at < seconds:
        kind = chance.choices(names, weights)[0]
        _, least, most = FAULTS[kind]
        found.append(Fault(at, kind, chance.randrange(1_000_000), chance.uniform(least, most)))
        at += chance.expovariate(1 / FAULT_PAUSE_SECONDS)
    return found


def choose(chance: random.Random) -> Kind:
    """The kind of the next task of a client."""
    return chance.choices(list(KINDS.values()), [kind.weight for kind in KINDS.values()])[0]


def body(kind: Kind, chance: random.Random, after: str) -> dict[str, Any]:
    """The body of the submit of one task of this kind; ``after`` is the id of the task that it waits for, if any."""
    spec: dict[str, Any] = {"name": kind.name, "image": IMAGE, "labels": {"kind": kind.name}}
    spec["args"] = ["sh", "-c", kind.script.format(pause=f"{chance.uniform(0, 1.5):.2f}")]
    more = dict(kind.spec or {})
    spec["limits"] = {**LIMITS, **more.pop("limits", {})}
    spec |= more
    blobs: dict[str, str] = {}
    if "in.txt" in kind.script:
        content = f"{chance.random()}\n".encode()
        sha256 = hashlib.sha256(content).hexdigest()
        blobs[sha256] = base64.b64encode(content).decode()
        spec["files"] = {"in.txt": {"reference": sha256}}
    if after:
        spec["after"] = [after]
    return {"spec": spec, "blobs": blobs, "name": kind.name}
