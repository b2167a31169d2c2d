"""Fair shares between owners (dominant resource fairness), and how many tasks come before one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from tasks.placement.records import DIMENSIONS, Amounts, Backlog, Demand, NodeView, QueuedTask, Share, Vector

SHARED = ("cpus", "memory", "gpus", "slots")
"""The amounts that count for a share; the others (swap, pids, storage) are seldom what a grid is short of."""

_INDICES = tuple(DIMENSIONS.index(name) for name in SHARED)
_LEAST_WEIGHT = 1e-9


def grid_capacity(nodes: Iterable[NodeView]) -> Amounts:
    """What all nodes that are ready offer together."""
    total = [0] * len(DIMENSIONS)
    for node in nodes:
        if node.ready:
            total = [a + b for a, b in zip(total, node.capacity.vector(), strict=True)]
    return Amounts.of(tuple(total))


def dominant_share(taken: Vector, total: Vector) -> float:
    """The greatest part that ``taken`` is of ``total``, over the amounts that count; 0 where the grid has nothing."""
    return max(taken[index] / total[index] if total[index] > 0 else 0.0 for index in _INDICES)


def current_shares(
    nodes: Sequence[NodeView], weights: Mapping[str, float] | None = None, past: Mapping[str, float] | None = None
) -> tuple[Share, ...]:
    """The shares that the leases add up to, by owner; ``past`` is added to them (decayed past use, 0 when left out).

    A task that must be alone counts as its whole node.
    """
    weights, past = weights or {}, past or {}
    total = grid_capacity(nodes).vector()
    used: dict[str, list[int]] = {owner: [0] * len(DIMENSIONS) for owner in sorted({*weights, *past})}
    for node in nodes:
        for lease in node.leases:
            taken = node.capacity.vector() if lease.exclusive else lease.amounts.needed()
            sums = used.setdefault(lease.owner, [0] * len(DIMENSIONS))
            for index in _INDICES:
                sums[index] += taken[index]
    return tuple(
        Share(owner, weights.get(owner, 1.0), dominant_share(tuple(sums), total) + past.get(owner, 0.0))
        for owner, sums in used.items()
    )


def ratio(used: float, weight: float) -> float:
    """What owners are ordered by, the smallest first."""
    return used / max(weight, _LEAST_WEIGHT)


def position(
    task: QueuedTask,
    demand: Demand,
    backlogs: Sequence[Backlog],
    shares: Sequence[Share],
    capacity: Amounts,
    earlier: Mapping[str, int] | None = None,
) -> int:
    """How many queued tasks would be considered before this one, found from counts and not by walking the queue.

    ``backlogs`` must hold all demands; ``earlier`` gives by demand key the number of queued tasks with a smaller
    ``seq`` where it is known (one count in the database); otherwise it is read from the heads, and tasks beyond these
    are taken to come before. Those of other owners count as far as fair shares would let them go first if every task
    had room.
    """
    records = {share.owner: share for share in shares}
    total = capacity.vector()
    known = earlier or {}
    own = [
        (backlog, _before(task, demand, backlog, known)) for backlog in backlogs if backlog.demand.owner == demand.owner
    ]
    reached = _start(records, demand.owner) + sum(
        count * _cost(backlog.demand, records, total) for backlog, count in own
    )
    others: dict[str, list[Backlog]] = {}
    for backlog in backlogs:
        if backlog.demand.owner != demand.owner:
            others.setdefault(backlog.demand.owner, []).append(backlog)
    ahead = sum(_served(mine, _start(records, owner), reached, records, total) for owner, mine in others.items())
    return ahead + sum(count for _, count in own)


def _before(task: QueuedTask, demand: Demand, backlog: Backlog, earlier: Mapping[str, int]) -> int:
    """How many tasks of a backlog of the same owner come before the task."""
    if backlog.demand.priority != demand.priority:
        return backlog.count if backlog.demand.priority > demand.priority else 0
    if backlog.demand.key in earlier:
        return min(backlog.count, earlier[backlog.demand.key])
    seen = sum(head.seq < task.seq for head in backlog.heads)
    if seen < len(backlog.heads):
        return seen
    return max(0, backlog.count - (1 if backlog.demand.key == demand.key else 0))


def _served(backlogs: list[Backlog], start: float, reached: float, records: Mapping[str, Share], total: Vector) -> int:
    """How many tasks of another owner are served before its ratio passes ``reached``."""
    count = 0
    for backlog in sorted(backlogs, key=lambda one: -one.demand.priority):
        if start >= reached:
            break
        cost = _cost(backlog.demand, records, total)
        room = math.ceil((reached - start) / cost) if cost > 0 else backlog.count
        taken = min(backlog.count, room)
        count += taken
        start += taken * cost
    return count


def _start(records: Mapping[str, Share], owner: str) -> float:
    share = records.get(owner, Share(owner))
    return ratio(share.used, share.weight)


def _cost(demand: Demand, records: Mapping[str, Share], total: Vector) -> float:
    """How much a task of the demand adds to its owner's ratio."""
    return ratio(dominant_share(demand.amounts.needed(), total), records.get(demand.owner, Share(demand.owner)).weight)
