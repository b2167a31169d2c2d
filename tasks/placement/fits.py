"""The predicates of placement, each with the sentence it gives when it refuses; `decide` and `explain` share them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import gt

from tasks.placement.records import DIMENSIONS, MICRO, Demand, NodeView, Vector
from tasks.units import human_seconds, human_size

_CPUS = DIMENSIONS.index("cpus")
_BYTES = frozenset({"memory", "swap", "storage"})
_SINGULAR = {"cpus": "cpu", "gpus": "gpu", "slots": "slot"}


@dataclass(frozen=True, slots=True)
class Need:
    """A demand made ready for many comparisons; ``ends_by`` is when the time limit of a task placed now is over."""

    demand: Demand
    vector: Vector
    ends_by: float

    @classmethod
    def of(cls, demand: Demand, now: float) -> Need:
        """The need of one task of the class, were it placed at ``now``."""
        seconds = math.inf if demand.time_seconds is None else demand.time_seconds
        return cls(demand, demand.amounts.needed(), now + seconds)


@dataclass(slots=True, eq=False)
class Hold:
    """A reservation while a round goes on: ``spare`` shrinks as others take from it.

    Tasks whose time is over before ``free_by`` cannot delay the start. While it is not ``binding``, others only prefer
    other nodes.
    """

    task_id: str
    demand_key: str
    queued_at: float
    starts_at: float
    free_by: float
    spare: Vector
    spare_resources: dict[str, int]
    resources: dict[str, int]
    binding: bool = True

    def outlasted_by(self, need: Need) -> bool:
        """True when a task placed now may still be there when the one that waits could start."""
        return need.ends_by >= self.free_by

    def refuses(self, need: Need, amounts: Vector) -> bool:
        """True when a task that takes ``amounts`` of the node could delay the one that the node is kept for."""
        return self.binding and self.outlasted_by(need) and any(map(gt, amounts, self.spare))

    def refuses_licence(self, need: Need, name: str, number: int) -> bool:
        """True when taking the licences could delay the task that waits for them."""
        return self.binding and self.outlasted_by(need) and number > self.spare_resources.get(name, math.inf)

    def sentence(self, now: float) -> str:
        """For whom, and how long that task has waited."""
        return f"reserved for task {self.task_id} (waiting for {human_seconds(max(0.0, now - self.queued_at))})"


@dataclass(slots=True, eq=False)
class Room:
    """A node while a round goes on: what is free, who is on it (``ends``: until when, how much), for whom it is kept.

    ``version`` grows with every change; ``kind`` is the same for nodes that could run the same tasks.
    """

    node: NodeView
    capacity: Vector
    free: Vector
    tasks: int
    exclusive: bool
    ends: list[tuple[float, Vector]]
    hold: Hold | None = None
    version: int = 0
    kind: int = 0

    @classmethod
    def of(cls, node: NodeView) -> Room:
        """The node with its present leases."""
        capacity = node.capacity.vector()
        free = minus(capacity, node.others.vector())
        ends: list[tuple[float, Vector]] = []
        for lease in node.leases:
            taken = lease.amounts.needed()
            free = minus(free, taken)
            ends.append((math.inf if lease.ends_at is None else lease.ends_at, taken))
        free = tuple(max(0, value) for value in free)  # a node may have shrunk under its leases
        return cls(node, capacity, free, len(node.leases), any(lease.exclusive for lease in node.leases), ends)

    @property
    def usable(self) -> Vector:
        """What the grid has of the node while others use their part of it."""
        return tuple(max(0, value) for value in minus(self.capacity, self.node.others.vector()))

    def takes(self, need: Need) -> Vector:
        """What a task withholds from others here: an exclusive one everything."""
        return self.capacity if need.demand.exclusive else need.vector

    def place(self, need: Need, ends_at: float) -> None:
        """Put a task that fits onto the node, where it stays until ``ends_at`` at the latest."""
        if self.hold is not None and self.hold.outlasted_by(need):
            self.hold.spare = minus(self.hold.spare, self.takes(need))
        self.free = minus(self.free, need.vector)
        self.tasks += 1
        self.exclusive = self.exclusive or need.demand.exclusive
        self.ends.append((ends_at, need.vector))
        self.version += 1


@dataclass(slots=True, eq=False)
class Supply:
    """What the whole grid shares: licences (all, taken, and when they come back) and the singletons that run."""

    total: dict[str, int]
    taken: dict[str, int] = field(default_factory=dict)
    ends: list[tuple[float, str, int]] = field(default_factory=list)
    singletons: set[str] = field(default_factory=set)
    holds: list[Hold] = field(default_factory=list)

    @classmethod
    def of(cls, nodes: Iterable[NodeView], licences: Mapping[str, int]) -> Supply:
        """The licences that the grid owns, less what the leases on all nodes use."""
        supply = cls(dict(licences))
        for node in nodes:
            for lease in node.leases:
                supply.take(lease.resources, lease.singleton, math.inf if lease.ends_at is None else lease.ends_at)
        return supply

    def take(self, resources: Sequence[tuple[str, int]], singleton: str, ends_at: float) -> None:
        """A task starts that uses these until ``ends_at``."""
        for name, number in resources:
            self.taken[name] = self.taken.get(name, 0) + number
            self.ends.append((ends_at, name, number))
        if singleton:
            self.singletons.add(singleton)

    def place(self, need: Need, ends_at: float) -> None:
        """As `take`, and count it against what is kept for those who wait."""
        self.take(need.demand.resources, need.demand.singleton, ends_at)
        for hold in self.holds:
            if hold.outlasted_by(need):
                for name, number in need.demand.resources:
                    if name in hold.spare_resources:
                        hold.spare_resources[name] -= number

    def free(self, name: str) -> int:
        """How many licences of the name are free now."""
        return self.total.get(name, 0) - self.taken.get(name, 0)


def minus(left: Vector, right: Vector) -> Vector:
    """Element by element."""
    return tuple(a - b for a, b in zip(left, right, strict=True))


def plus(left: Vector, right: Vector) -> Vector:
    """Element by element."""
    return tuple(a + b for a, b in zip(left, right, strict=True))


def could_run(need: Need, room: Room) -> bool:
    """True when the node could run the task if it were ready and empty; `never_reasons` says why not."""
    demand, node = need.demand, room.node
    return (
        demand.requires <= node.tags
        and demand.runtime in node.runtimes
        and demand.must_enforce <= node.enforces
        and not any(map(gt, need.vector, room.capacity))
        and demand.gpu_memory <= node.gpu_memory
    )


def never_reasons(need: Need, room: Room) -> Iterator[str]:
    """Why the node could not run the task even if it were ready and empty; nothing when `could_run`."""
    demand, node = need.demand, room.node
    for tag in sorted(demand.requires - node.tags):
        yield f"lacks the tag {tag}"
    if demand.runtime not in node.runtimes:
        yield f"does not offer the runtime {demand.runtime}"
    for limit in sorted(demand.must_enforce - node.enforces):
        yield f"cannot enforce {limit}"
    for index in _short(need.vector, room.capacity):
        yield f"needs {_amount(index, need.vector[index])}, the node has {_number(index, room.capacity[index])}"
    if demand.gpu_memory > node.gpu_memory:
        yield f"needs {human_size(demand.gpu_memory)} on each gpu, the node's have {human_size(node.gpu_memory)}"


def fits(need: Need, room: Room) -> bool:
    """True when a node that could run the task can take it now; `now_reasons` says why not."""
    return (
        room.node.ready
        and not _crowded(need, room)
        and not any(map(gt, need.vector, room.free))
        and (room.hold is None or not room.hold.refuses(need, room.takes(need)))
    )


def now_reasons(need: Need, room: Room, now: float) -> Iterator[str]:
    """Why a node that could run the task cannot take it now; nothing when `fits`."""
    if not room.node.ready:
        why = room.node.not_ready_reason
        yield f"is not ready: {why}" if why else "is not ready"
    if _crowded(need, room):
        if room.exclusive:
            yield "exclusive: a task that must be alone is running here"
        else:
            yield f"exclusive: {room.tasks} {'task is' if room.tasks == 1 else 'tasks are'} running here"
    for index in _short(need.vector, room.free):
        if room.capacity[index] >= need.vector[index]:
            yield _too_little(index, need.vector[index], room)
    if room.hold is not None and room.hold.refuses(need, room.takes(need)):
        yield room.hold.sentence(now)


def grid_reasons(need: Need, supply: Supply, now: float) -> Iterator[str]:
    """Why no node at all can take the task now: licences and singletons."""
    demand = need.demand
    if demand.singleton and demand.singleton in supply.singletons:
        yield f"another task of singleton '{demand.singleton}' is running"
    for name, number in demand.resources:
        total, free = supply.total.get(name, 0), supply.free(name)
        if number > total:
            yield f"licence {name}: needs {number}, the grid has {total}"
        elif number > free:
            wanted = f", needs {number}" if number > 1 else ""
            yield f"licence {name}: {max(0, free)} of {total} free{wanted}"
        else:
            for hold in supply.holds:
                if hold.refuses_licence(need, name, number):
                    yield f"licence {name}: {hold.sentence(now)}"


def licences_exist(demand: Demand, supply: Supply) -> bool:
    """True when the grid owns the licences that the task needs."""
    return all(number <= supply.total.get(name, 0) for name, number in demand.resources)


def avoided(avoid: frozenset[str], candidates: Sequence[Room]) -> frozenset[str]:
    """The nodes that a task must not go to: those of ``avoid``, or none when no other ready candidate exists."""
    if avoid and any(room.node.ready and room.node.name not in avoid for room in candidates):
        return avoid
    return frozenset()


def _crowded(need: Need, room: Room) -> bool:
    """A task that must be alone and any other one never share a node."""
    return room.exclusive or (need.demand.exclusive and room.tasks > 0)


def _short(needed: Vector, there: Vector) -> list[int]:
    """The dimensions of which there is less than needed."""
    return [index for index, wanted in enumerate(needed) if wanted > there[index]]


def _too_little(index: int, needed: int, room: Room) -> str:
    name, free, capacity = DIMENSIONS[index], room.free[index], _number(index, room.capacity[index])
    what = f"{name} is" if name in _BYTES else f"{name} are"
    others = room.node.others.vector()[index]
    if others and needed <= free + others:
        return f"{_number(index, others)} of {capacity} {what} in use by others, needs {_number(index, needed)}"
    also = f" ({_number(index, others)} in use by others)" if others else ""
    return f"{_number(index, free)} of {capacity} {what} free{also}, needs {_number(index, needed)}"


def _number(index: int, value: int) -> str:
    if index == _CPUS:
        return f"{value / MICRO:g}"
    return human_size(value) if DIMENSIONS[index] in _BYTES else str(value)


def _amount(index: int, value: int) -> str:
    """As in "4 cpus", "1.5G of memory"."""
    name, number = DIMENSIONS[index], _number(index, value)
    if name in _BYTES:
        return f"{number} of {name}"
    return f"{number} {_SINGULAR.get(name, name) if number == '1' else name}"
