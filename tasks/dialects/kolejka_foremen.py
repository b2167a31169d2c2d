"""What kolejka's foremen ask for: how many tasks, within which limits, on a machine with which tags."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tasks.dialects.kolejka_units import read_bytes, read_seconds, read_switch, read_whole
from tasks.errors import Fault, SpecError
from tasks.limits import MAX_CPUS
from tasks.order import Capacity, Facts
from tasks.outcome import MissingOutput
from tasks.placement import Demand
from tasks.spec import TaskSpec
from tasks.words import shown

ENFORCES = ("memory", "swap", "cpus", "pids", "time", "network")
"""The limits that kolejka's worker holds a task to. It takes one on storage too, and does not enforce it."""

KOLEJKA = "kolejka"
"""What stands in place of a version for nodes that are foremen."""

MOST_AT_ONCE = 500
# What a foreman without a limit of its own may be given: kolejka does not ask what a machine has.
_UNSAID_BYTES = 2**40
_UNSAID_STORAGE = 2**44
_UNSAID_PIDS = 2**22
_UPKEEP_SECONDS = 10.0
_READERS = {
    **dict.fromkeys(("cpus", "pids", "gpus"), read_whole),
    **dict.fromkeys(("memory", "swap", "storage", "gpu_memory"), read_bytes),
    "time": read_seconds,
    "network": read_switch,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a foreman asks for: at most ``number`` tasks that fit ``facts`` together, none of them above ``seconds``."""

    number: int
    facts: Facts
    seconds: float | None = None
    network: bool = True

    @property
    def host(self) -> str:
        """The name of the machine, empty where the foreman does not tell it."""
        return next((tag.removeprefix("hostname:") for tag in self.facts.tags if tag.startswith("hostname:")), "")

    @property
    def session(self) -> str:
        """A word that changes when the foreman offers something else than before."""
        return "kolejka-" + hashlib.sha256(self.facts.model_dump_json().encode()).hexdigest()[:16]

    def wants(self, demand: Demand) -> bool:
        """Whether a foreman can be given such tasks at all, by what only it is particular about.

        It reboots its machine after a task without a limit of time; what the whole grid counts is for our own nodes.
        """
        in_time = demand.time_seconds is not None and (self.seconds is None or demand.time_seconds <= self.seconds)
        return in_time and not demand.resources and not demand.singleton


def read_wish(data: object) -> Wish:
    """The body of a dequeue; raises SpecError."""
    if not isinstance(data, Mapping):
        raise SpecError([Fault("", f"a wish must be an object, not {shown(data)}")])
    faults: list[Fault] = []
    limits, tags = ({} if data.get("limits") is None else data["limits"]), data.get("tags")
    if not isinstance(limits, Mapping):
        faults.append(Fault("limits", f"must be an object, not {shown(limits)}"))
        limits = {}
    if tags is not None and not isinstance(tags, list):
        faults.append(Fault("tags", f"must be a list, not {shown(tags)}"))
    caps: dict[str, Any] = {}
    number = 1
    for name, value in {"concurency": data.get("concurency"), **limits}.items():
        reader = read_whole if name == "concurency" else _READERS.get(name)
        if value is None or reader is None:
            continue
        try:
            caps[name] = reader(value)
        except ValueError as error:
            faults.append(Fault(name if name == "concurency" else f"limits.{name}", str(error)))
    if faults:
        raise SpecError(faults)
    number = max(0, min(MOST_AT_ONCE, caps.pop("concurency", number)))
    words = tuple(dict.fromkeys(str(tag)[:200] for tag in tags or ()))[:100]
    return Wish(number, _facts(caps, words, number), caps.get("time"), caps.get("network", True))


def _facts(caps: Mapping[str, Any], tags: tuple[str, ...], number: int) -> Facts:
    cores = next((int(tag[5:]) for tag in tags if re.fullmatch(r"cpus:[0-9]{1,4}", tag, re.ASCII)), MAX_CPUS)
    return Facts(
        tags=tags,
        capacity=Capacity(
            cpus=float(max(0, caps.get("cpus", cores))),
            memory=caps.get("memory", _UNSAID_BYTES),
            swap=caps.get("swap", _UNSAID_BYTES),
            pids=max(0, caps.get("pids", _UNSAID_PIDS)),
            storage=caps.get("storage", _UNSAID_STORAGE),
            gpus=max(0, caps.get("gpus", 0)),
            gpu_memory=caps.get("gpu_memory", 0),
            slots=max(1, number),
        ),
        enforces=ENFORCES,
        version=KOLEJKA,
    )


def hold_seconds(limits_of_time: list[float]) -> float:
    """How long a foreman may need at most for tasks with these limits, files aside.

    It runs what fits together and begins the rest when the last of these is over, each with twice its limit and 10 s.
    """
    return sum(2 * seconds + _UPKEEP_SECONDS for seconds in limits_of_time)


def missing_outputs(spec: TaskSpec, files: list[str]) -> tuple[MissingOutput, ...]:
    """The required rules of a task of which no file came back: kolejka has no such rules, so they are checked here."""
    required = [rule for rule in spec.collect if rule.required]
    return tuple(
        MissingOutput(glob=rule.glob)
        for rule in required
        if not any(fnmatchcase(name, rule.name_for(rule.glob)) for name in files)
    )
