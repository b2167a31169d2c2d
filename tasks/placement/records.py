"""The values that placement takes and gives: demands, backlogs, nodes, leases, shares, placements, reasons."""

from __future__ import annotations

from dataclasses import dataclass

Vector = tuple[int, ...]
"""Amounts as whole numbers, in the order of ``DIMENSIONS``: sums of them are exact, however often they are added up."""

DIMENSIONS = ("cpus", "memory", "swap", "pids", "storage", "gpus", "slots")
MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Amounts:
    """What is shared out on a node: cores (fractions allowed), bytes, counts; ``slots`` is the number of attempts."""

    cpus: float = 0.0
    memory: int = 0
    swap: int = 0
    pids: int = 0
    storage: int = 0
    gpus: int = 0
    slots: int = 1

    def vector(self) -> Vector:
        """The amounts as whole numbers, cores in millionths and rounded to the nearest."""
        return (round(self.cpus * MICRO), self.memory, self.swap, self.pids, self.storage, self.gpus, self.slots)

    def needed(self) -> Vector:
        """As `vector`, cores rounded down: three tasks of a third of a core fit on one core."""
        return (int(self.cpus * MICRO), self.memory, self.swap, self.pids, self.storage, self.gpus, self.slots)

    @staticmethod
    def of(vector: Vector) -> Amounts:
        """The amounts that a vector stands for."""
        return Amounts(vector[0] / MICRO, *vector[1:])


@dataclass(frozen=True, slots=True)
class Demand:
    """What every task of a class of equal tasks needs.

    ``key`` names the class. ``gpu_memory`` is bytes per card. ``requires`` are tags that the node must have,
    ``resources`` are grid-wide licences (name, number). ``must_enforce`` are the limits that the task asked for and did
    not call best effort. ``time_seconds`` is the wall time after which it is ended, None when it may run for ever.
    Of the tasks with one ``singleton`` key (compared as it is) only one runs at a time; "" is no key.
    """

    key: str
    owner: str = ""
    priority: int = 0
    cpus: float = 0.0
    memory: int = 0
    swap: int = 0
    pids: int = 0
    storage: int = 0
    gpus: int = 0
    gpu_memory: int = 0
    requires: frozenset[str] = frozenset()
    exclusive: bool = False
    resources: tuple[tuple[str, int], ...] = ()
    runtime: str = "docker"
    must_enforce: frozenset[str] = frozenset()
    time_seconds: float | None = None
    singleton: str = ""

    @property
    def amounts(self) -> Amounts:
        """What one task of the class takes on its node: the amounts it names, and one slot."""
        return Amounts(self.cpus, self.memory, self.swap, self.pids, self.storage, self.gpus, slots=1)


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """A task that waits: ``seq`` orders tasks of equal rank (smaller first), ``queued_at`` is by the server's clock.

    ``avoid`` names nodes on which it failed for reasons of infrastructure. It is not placed there, unless no other
    ready node could ever run it.
    """

    id: str
    seq: int
    queued_at: float
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Backlog:
    """The queued tasks of one demand: the first few in order of ``seq``, and how many there are in all."""

    demand: Demand
    heads: tuple[QueuedTask, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Lease:
    """An attempt that holds a part of a node now.

    ``ends_at`` is the latest time at which it will be gone (time limit and grace included), None if that is unknown.
    """

    attempt: str
    amounts: Amounts = Amounts()
    ends_at: float | None = None
    exclusive: bool = False
    singleton: str = ""
    resources: tuple[tuple[str, int], ...] = ()
    owner: str = ""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as placement sees it: what it has, what it can do, who is on it. ``gpu_memory`` is bytes per card.

    Nodes that are not ready must be given too while they hold leases: these count for licences and singletons.
    ``others_cpus`` and ``others_memory`` are what others than the grid use of the capacity now.
    """

    name: str
    capacity: Amounts
    tags: frozenset[str] = frozenset()
    enforces: frozenset[str] = frozenset()
    runtimes: frozenset[str] = frozenset({"docker"})
    gpu_memory: int = 0
    ready: bool = True
    not_ready_reason: str = ""
    leases: tuple[Lease, ...] = ()
    others_cpus: float = 0.0
    others_memory: int = 0

    @property
    def others(self) -> Amounts:
        """What others than the grid use of the capacity."""
        return Amounts(cpus=self.others_cpus, memory=self.others_memory, slots=0)


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the grid an owner has: ``used`` is its dominant share now (0..1), plus decayed past use, if counted.

    The owner with the smallest ``used / weight`` is served next. An owner without a record has weight 1 and used 0.
    """

    owner: str
    weight: float = 1.0
    used: float = 0.0


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How many more attempts the owners together may begin now, and, when none, why."""

    owners: frozenset[str]
    left: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of placement.

    A blocked task that has waited longer than ``patience_seconds`` gets a reservation; at most ``max_reservations``
    stand at a time. ``margin_seconds`` is what a task needs at most beside its time limit (image, files, collection).
    ``max_placements`` bounds one round, ``ceilings`` what some owners may begin.
    """

    patience_seconds: float = 60.0
    max_reservations: int = 4
    margin_seconds: float = 30.0
    max_placements: int = 1000
    ceilings: tuple[Ceiling, ...] = ()


@dataclass(frozen=True, slots=True)
class Placement:
    """A task goes to a node."""

    task_id: str
    demand_key: str
    node: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """A node is kept for a task that has waited long.

    It can start at ``starts_at`` at the latest (infinity: when those without a known end are gone). Others may use the
    node if their time is over before ``free_by`` (they are surely gone at ``starts_at`` then), or if they take no more
    than ``spare``, and ``spare_resources`` of the licences.
    """

    task_id: str
    demand_key: str
    node: str
    queued_at: float
    starts_at: float
    free_by: float
    spare: Amounts
    spare_resources: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a round, placements in the order in which they were made.

    ``more`` names the demands of which all given heads were placed while more tasks are queued: load their next heads
    and decide again at once. ``full`` is true when the round ended at ``Policy.max_placements``.
    """

    placements: tuple[Placement, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    more: tuple[str, ...] = ()
    full: bool = False


@dataclass(frozen=True, slots=True)
class NodeReason:
    """Why a node does or does not take a task; ``fits_ever``: it would if it were ready, empty and kept for nobody."""

    node: str
    fits_now: bool
    fits_ever: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task waits: node by node, and in a sentence; ``grid_reasons`` (licences, singletons) hold on every node."""

    per_node: tuple[NodeReason, ...]
    summary: str
    can_ever_run: bool
    grid_reasons: tuple[str, ...] = ()

    @property
    def fits_now(self) -> bool:
        """True when some node would take the task at once."""
        return any(node.fits_now for node in self.per_node)
