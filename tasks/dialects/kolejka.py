"""kolejka's task JSON and ours, in both directions.

What is ignored is said: ``Reading.warnings`` go into the task's label ``WARNINGS`` and from there into its result. What
the grid cannot do and must not pretend to do is refused by name: ``Reading.refused``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.dialects.kolejka_units import read_bytes, read_seconds, read_switch, read_whole, write_bytes, write_seconds
from tasks.errors import Fault, SpecError
from tasks.limits import Limits
from tasks.spec import TaskSpec
from tasks.words import shown

DIALECT = "dialect"
KOLEJKA = "kolejka"
WARNINGS = "warnings"
"""The labels of a task that came in this dialect: ``dialect: kolejka``, and what was ignored of it."""

Json = dict[str, Any]

_TASK_KEYS = frozenset(
    ("id", "image", "args", "requires", "exclusive", "limits", "environment", "stdin", "stdout", "stderr", "files")
) | {"collect", "callback_url"}
_LIMITS: dict[str, Callable[[object], object]] = {
    "cpus": read_whole,
    "memory": read_bytes,
    "swap": read_bytes,
    "pids": read_whole,
    "time": read_seconds,
    "storage": read_bytes,
    "workspace": read_bytes,
    "network": read_switch,
    "gpus": read_whole,
    "gpu_memory": read_bytes,
}
_UNUSED_LIMITS = {
    "image": "the size of images is not limited here, the operator allows them by name",
    "cpus_offset": "the node chooses the cores",
    "gpus_offset": "the node chooses the cards",
}
_REFUSED_LIMITS = {
    "perf_instructions": "no node of this grid counts instructions",
    "perf_cycles": "no node of this grid counts cycles of the processor",
    "cgroup_depth": "tasks make no control groups of their own here",
    "cgroup_descendants": "tasks make no control groups of their own here",
}
_SIZES = ("memory", "swap", "storage", "gpu_memory")


@dataclass(frozen=True, slots=True)
class Reading:
    """A kolejka task as plain data of ours, its files by kolejka's references; what was ignored, what is refused."""

    spec: Json
    warnings: tuple[str, ...] = ()
    refused: tuple[Fault, ...] = ()

    @property
    def references(self) -> dict[str, str]:
        """The reference of each file by its name."""
        return {name: file["reference"] for name, file in self.spec.get("files", {}).items()}

    def labelled(self, references: Mapping[str, str]) -> Json:
        """The spec with the blobs (sha256) that references stand for, and with labels that tell what was ignored."""
        labels = {DIALECT: KOLEJKA} | ({WARNINGS: "; ".join(self.warnings)} if self.warnings else {})
        files = {name: {"reference": references[reference]} for name, reference in self.references.items()}
        return {**self.spec, "labels": labels, **({"files": files} if files else {})}


@dataclass(slots=True)
class _Notes:
    """What is found on the way through a description."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refused: list[Fault] = field(default_factory=list)

    def fault(self, path: str, message: str, hint: str = "") -> None:
        self.faults.append(Fault(path, message, hint))

    def unknown(self, where: str, given: Mapping[str, object], known: frozenset[str]) -> None:
        for key in sorted(str(key) for key in given if key not in known):
            self.warnings.append(f"ignored {shown(where + key)}: not a key of kolejka's")

    def read(self, path: str, reader: Callable[[object], object], value: object) -> object:
        """What the reader makes of a value, None where it complains."""
        try:
            return reader(value)
        except ValueError as error:
            self.fault(path, str(error))
            return None


def read_task(data: object, *, network_allowed: bool) -> Reading:
    """A kolejka task JSON in our words; raises SpecError with every value that kolejka itself could not read.

    A task gets the network unless it declines or the site does (``network_allowed``), as kolejka's limits combine.
    """
    if not isinstance(data, Mapping):
        raise SpecError([Fault("", f"a task must be an object, not {shown(data)}")])
    notes = _Notes()
    notes.unknown("", data, _TASK_KEYS)
    spec: Json = {}
    for key in ("image", "stdin", "stdout", "stderr", "callback_url"):
        if data.get(key) is not None:
            spec[key] = str(data[key])
    if not spec.get("image"):
        notes.fault("image", "is missing; a container needs one", 'write "image": "ubuntu", say')
    for key in ("stdin", "stdout", "stderr", "callback_url"):
        if not spec.get(key, "-"):
            del spec[key]
    spec |= {
        "args": _texts(notes, "args", data.get("args")),
        "requires": _texts(notes, "requires", data.get("requires")),
        "exclusive": data.get("exclusive") is not None and read_switch(data["exclusive"]),
        "environment": {str(k): str(v) for k, v in _object(notes, "environment", data.get("environment")).items()},
        "files": _read_files(notes, _object(notes, "files", data.get("files"))),
        "collect": _read_collect(notes, data.get("collect")),
        "limits": _read_limits(notes, _object(notes, "limits", data.get("limits")), network_allowed),
    }
    # kolejka holds to its storage limits only where a disk can; a task must not wait for ever for such a node.
    spec["best_effort"] = ["storage"] if "storage" in spec["limits"] else []
    if notes.faults:
        raise SpecError(notes.faults)
    return Reading({key: value for key, value in spec.items() if value not in ({}, [], False)}, *_said(notes))


def _said(notes: _Notes) -> tuple[tuple[str, ...], tuple[Fault, ...]]:
    return tuple(notes.warnings), tuple(notes.refused)


def _texts(notes: _Notes, path: str, value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        notes.fault(path, f"must be a list, not {shown(value)}")
        return []
    return [str(one) for one in value]


def _object(notes: _Notes, path: str, value: object) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        notes.fault(path, f"must be an object, not {shown(value)}")
        return {}
    return value


def _read_files(notes: _Notes, given: Mapping[str, object]) -> Json:
    files = {}
    for name, source in given.items():
        if isinstance(source, Mapping):
            notes.unknown(f"files.{name}.", source, frozenset({"path", "reference"}))
            reference = source.get("reference")
        else:
            # A path of the sender's own machine: its content has not come along.
            reference = None
        if reference:
            files[name] = {"reference": str(reference)}
        else:
            notes.refused.append(Fault(f"files.{name}", f"File {name} does not have a reference"))
    return files


def _read_collect(notes: _Notes, value: object) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list):
        notes.fault("collect", f"must be a list, not {shown(value)}")
        return []
    rules = []
    for number, given in enumerate(value):
        where = f"collect[{number}]"
        rule = _object(notes, where, given)
        notes.unknown(f"{where}.", rule, frozenset({"glob", "strip", "prefix"}))
        strip = notes.read(f"{where}.strip", read_whole, rule.get("strip", 0))
        if rule.get("glob") is None:
            notes.fault(f"{where}.glob", "is missing")
            continue
        prefix = str(rule.get("prefix") or "").strip("/")
        found: Json = {"glob": str(rule["glob"]), "strip": max(0, strip) if isinstance(strip, int) else 0}
        rules.append({**found, **({"prefix": prefix} if prefix else {})})
    return rules


def _read_limits(notes: _Notes, given: Mapping[str, object], network_allowed: bool) -> Json:
    notes.unknown("limits.", given, frozenset(_LIMITS) | _UNUSED_LIMITS.keys() | _REFUSED_LIMITS.keys())
    said = {key: value for key, value in given.items() if value is not None}
    limits = {key: notes.read(f"limits.{key}", reader, said[key]) for key, reader in _LIMITS.items() if key in said}
    for key, reason in _UNUSED_LIMITS.items():
        if key in said:
            notes.warnings.append(f'ignored "limits.{key}": {reason}')
    for key, reason in _REFUSED_LIMITS.items():
        if key in said:
            notes.refused.append(Fault(f"limits.{key}", reason, "leave it out"))
    workspace = limits.pop("workspace", None)
    if isinstance(workspace, int):
        # Both bound what a task may write; here it is one limit, and the smaller of the two holds.
        storage = limits.get("storage")
        limits["storage"] = min(workspace, storage) if isinstance(storage, int) else workspace
    if not limits.get("gpus"):
        limits.pop("gpu_memory", None)
    if limits.get("network") is True and not network_allowed:
        notes.warnings.append('ignored "limits.network": the network is not allowed here')
    if limits.get("network", True) is True:
        limits.pop("network", None)
        limits |= {"network": True} if network_allowed else {}
    return limits


# ------------------------------------------------------------------------------------------------------------ outwards


def write_task(spec: TaskSpec, task_id: str, limits: Limits) -> Json:
    """A task as kolejka's programs read it; ``limits`` are the effective ones. Keys that kolejka lacks are left out."""
    task: Json = {
        "id": task_id,
        "requires": list(spec.requires),
        "limits": write_limits(limits),
        "environment": dict(spec.environment),
        "args": list(spec.args),
        "files": {name: {"reference": file.reference} for name, file in spec.files.items()},
        "collect": [
            {"glob": rule.glob}
            | ({"strip": rule.strip} if rule.strip else {})
            | ({"prefix": rule.prefix} if rule.prefix else {})
            for rule in spec.collect
        ],
    }
    named = {key: getattr(spec, key) for key in ("image", "stdin", "stdout", "stderr", "callback_url")}
    task |= {key: value for key, value in named.items() if value is not None}
    return task | ({"exclusive": True} if spec.exclusive else {})


def write_limits(limits: Limits) -> Json:
    """Limits in kolejka's units; it knows whole processors only, so a part of one is written as one."""
    said: Json = {}
    if limits.cpus is not None:
        said["cpus"] = math.ceil(limits.cpus)
    for name in _SIZES:
        if (size := getattr(limits, name)) is not None:
            said[name] = write_bytes(size)
    for name in ("pids", "gpus", "network"):
        if (value := getattr(limits, name)) is not None:
            said[name] = value
    if limits.time is not None:
        said["time"] = write_seconds(limits.time)
    if not limits.gpus:
        said.pop("gpu_memory", None)
    return said
