"""The state of the grid as the plain values that placement decides on; read from the records and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import TypedDict

from django.db.models import IntegerField, OuterRef, Q, QuerySet, Subquery

from grid.core import policy
from grid.core.ids import order_of
from grid.core.models import Attempt, Demand, Node, Task
from tasks.order import Facts
from tasks.placement import Amounts, Backlog, Lease, NodeView, QueuedTask
from tasks.placement import Demand as PlacementDemand
from tasks.states import AttemptState, NodeMode, TaskState


def nodes(now: datetime, margin_seconds: float) -> tuple[NodeView, ...]:
    """All nodes with the attempts that hold a part of them."""
    leases: dict[int, list[Lease]] = defaultdict(list)
    active = Attempt.objects.exclude(state=AttemptState.ENDED)
    columns = ("id", "node_id", "assigned_at", "started_at", "task__demand_id")
    for attempt, node_id, assigned_at, started_at, key in active.values_list(*columns):
        since = (started_at or assigned_at).timestamp()
        leases[node_id].append(_lease(attempt, since + margin_seconds, _demand(key)))
    rows = Node.objects.exclude(session="").order_by("name").defer("facts")
    return tuple(_node_view(node, tuple(leases[node.pk]), now) for node in rows)


def _lease(attempt: str, began: float, demand: PlacementDemand) -> Lease:
    return Lease(
        attempt=attempt,
        amounts=demand.amounts,
        ends_at=began + demand.time_seconds if demand.time_seconds else None,
        exclusive=demand.exclusive,
        singleton=demand.singleton,
        resources=demand.resources,
        owner=demand.owner,
    )


@lru_cache(maxsize=10_000)
def _demand(key: str) -> PlacementDemand:
    """The demand of a key; its row never changes, for the key is the hash of it."""
    return policy.demand_from(Demand.objects.values_list("data", flat=True).get(key=key))


@lru_cache(maxsize=2_000)
def _facts(node_id: int, session: str) -> Facts:
    """What a node said of itself in its hello; what placement needs of it stays the same for the session."""
    return Facts.model_validate(Node.objects.values_list("facts", flat=True).get(pk=node_id))


def _node_view(node: Node, leases: tuple[Lease, ...], now: datetime) -> NodeView:
    reason = not_ready_reason(node, now)
    view = offer(node.name, _facts(node.pk, node.session), ready=not reason, reason=reason, leases=leases)
    if not (node.foreign_cpus or node.foreign_memory):
        return view
    return replace(view, others_cpus=node.foreign_cpus, others_memory=node.foreign_memory)


def offer(name: str, facts: Facts, *, ready: bool, reason: str, leases: tuple[Lease, ...]) -> NodeView:
    """A node as placement sees it."""
    offered = facts.capacity
    return NodeView(
        name=name,
        capacity=Amounts(
            offered.cpus, offered.memory, offered.swap, offered.pids, offered.storage, offered.gpus, offered.slots
        ),
        tags=frozenset(facts.tags),
        enforces=frozenset(facts.enforces),
        runtimes=frozenset(facts.runtimes),
        gpu_memory=offered.gpu_memory,
        ready=ready,
        not_ready_reason=reason,
        leases=leases,
    )


def online(node: Node, now: datetime) -> bool:
    """Whether the node has been heard of within its lease."""
    return node.lease_until is not None and node.lease_until > now


def not_ready_reason(node: Node, now: datetime) -> str:
    """Why the node takes nothing now; empty when it does."""
    if not online(node, now):
        return f"not heard of since {node.last_seen:%H:%M:%S} UTC" if node.last_seen else "it has never joined"
    if node.mode != NodeMode.OPEN:
        return mode_words(node)
    return "" if node.ready else node.not_ready_reason or "it is not ready"


def mode_words(node: Node) -> str:
    """What the operator has decided for the node, in words: "it is cordoned by root: new disk"."""
    words = {NodeMode.OPEN: "it is open", NodeMode.CORDONED: "it is cordoned", NodeMode.DRAINING: "it is being drained"}
    by = f" by {node.mode_by}" if node.mode_by else ""
    return words[NodeMode(node.mode)] + by + (f": {node.mode_reason}" if node.mode_reason else "")


def backlogs(
    heads: int, wanted: Callable[[PlacementDemand], bool] | None = None, only: Q | None = None
) -> tuple[Backlog, ...]:
    """The queue by demand: the first ``heads`` tasks of each, of the demands ``wanted`` and ``only`` of some tasks."""
    found = []
    for key in Demand.objects.filter(active=True).order_by("key").values_list("key", flat=True):
        if wanted is not None and not wanted(_demand(key)):
            continue
        queued = queued_heads(key, heads, only)
        if queued:
            # The number behind the heads does not matter to the decision, only that there are more.
            more = len(queued) == heads
            found.append(Backlog(_demand(key), queued, len(queued) + more))
    return tuple(found)


def heads() -> tuple[Backlog, ...]:
    """The first queued task of each demand, for those who only look: nothing is counted."""
    found = Demand.objects.filter(active=True).order_by("key").annotate(first=Subquery(_in_line()[:1]))
    return _backlogs([(key, 1, first) for key, first in found.values_list("key", "first")])


def queued_heads(demand: str, heads: int, only: Q | None = None) -> tuple[QueuedTask, ...]:
    """The first queued tasks of a demand, oldest first."""
    rows = Task.objects.filter(only or Q(), demand_id=demand, state=TaskState.QUEUED).order_by("id")
    return tuple(
        _queued(task_id, queued_at, avoid)
        for task_id, queued_at, avoid in rows.values_list("id", "queued_at", "avoid")[:heads]
        if queued_at is not None
    )


def counted_backlogs(most: int) -> tuple[Backlog, ...]:
    """The queue by demand with counts, for people who ask for their position; each is counted up to ``most``."""
    found = Demand.objects.filter(active=True).order_by("key")
    found = found.annotate(count=Counted(_in_line()[:most]), first=Subquery(_in_line()[:1]))
    return _backlogs(list(found.values_list("key", "count", "first")))


class _OnlyId(TypedDict):
    id: str


class Counted(Subquery):
    """The number of rows of a query that has a limit."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"
    output_field = IntegerField()


def _in_line() -> QuerySet[Task, _OnlyId]:
    """The queued tasks of the demand of a row: in the order of their index, of which no more is read than is wanted."""
    return Task.objects.filter(demand_id=OuterRef("key"), state=TaskState.QUEUED).order_by("id").values("id")


def _backlogs(rows: list[tuple[str, int, str | None]]) -> tuple[Backlog, ...]:
    """The queue of demands, their numbers and their first tasks: one question more, however many there are."""
    firsts = {task_id for _, _, task_id in rows if task_id}
    found = Task.objects.filter(id__in=firsts, state=TaskState.QUEUED).values_list("id", "queued_at", "avoid")
    tasks = {task_id: _queued(task_id, queued_at, avoid) for task_id, queued_at, avoid in found if queued_at}
    # What has just been placed is no part of the queue any more.
    return tuple(Backlog(_demand(key), (tasks[first],), count) for key, count, first in rows if first in tasks)


def _queued(task_id: str, queued_at: datetime, avoid: Iterable[str]) -> QueuedTask:
    return QueuedTask(task_id, order_of(task_id), queued_at.timestamp(), frozenset(avoid))


def revive(demands: Iterable[str] | None = None) -> int:
    """Wake demands that rest although something of them is queued (a submit crossed the moment of ``rest``)."""
    resting = Demand.objects.filter(active=False)
    if demands is not None:
        resting = resting.filter(key__in=list(demands))
    queued = Task.objects.filter(state=TaskState.QUEUED, demand_id__in=resting.values("key"))
    return Demand.objects.filter(key__in=list(queued.values_list("demand_id", flat=True).distinct())).update(
        active=True
    )


def rest() -> int:
    """Put the demands to rest of which nothing is queued; return how many.

    Done once a tick and not when a demand is seen empty: where tasks come one by one it would rest and wake with each.
    """
    empty = Demand.objects.filter(active=True).exclude(tasks__state=TaskState.QUEUED)
    keys = list(empty.values_list("key", flat=True))
    if not keys:
        return 0
    rested = empty.filter(key__in=keys).update(active=False)
    return rested - revive(keys)
