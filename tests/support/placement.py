"""Builders for tests of placement: a node, a demand, its queued tasks, with defaults that matter to no story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.placement import (
    Amounts,
    Backlog,
    Decision,
    Demand,
    Lease,
    NodeView,
    Policy,
    QueuedTask,
    Share,
    decide,
)

MIB = 1024**2
GIB = 1024**3
NOW = 1_000_000.0

A_NODE = NodeView(
    "node",
    Amounts(cpus=4, memory=8 * GIB, swap=GIB, pids=1000, storage=100 * GIB, slots=8),
    enforces=frozenset({"memory", "pids"}),
)
A_DEMAND = Demand("small", owner="ann", cpus=1, memory=GIB, pids=16, time_seconds=60)


def a_node(name: str = "node", *leases: Lease, cpus: float = 4, slots: int = 8, **fields: Any) -> NodeView:
    """A node of 4 cores, 8 GiB, 8 slots and no gpu."""
    capacity = replace(A_NODE.capacity, cpus=cpus, slots=slots, gpus=fields.pop("gpus", 0))
    return replace(A_NODE, name=name, leases=leases, **{"capacity": capacity, **fields})


def a_demand(key: str = "small", **fields: Any) -> Demand:
    """A demand of 1 core and 1 GiB for a minute at most, of Ann."""
    return replace(A_DEMAND, key=key, **fields)


def a_lease(demand: Demand = A_DEMAND, attempt: str = "running", ends_at: float | None = None) -> Lease:
    """An attempt of the demand that runs."""
    return Lease(
        attempt, demand.amounts, ends_at, demand.exclusive, demand.singleton, demand.resources, owner=demand.owner
    )


def a_backlog(demand: Demand = A_DEMAND, number: int = 1, *, first: int = 1, waited: float = 0.0) -> Backlog:
    """So many queued tasks of the demand, called KEY-SEQ, that have all waited so long."""
    heads = tuple(QueuedTask(f"{demand.key}-{seq}", seq, NOW - waited) for seq in range(first, first + number))
    return Backlog(demand, heads, number)


def decided(
    backlogs: Sequence[Backlog],
    nodes: Sequence[NodeView],
    *,
    licences: Mapping[str, int] | None = None,
    shares: Sequence[Share] = (),
    policy: Policy | None = None,
) -> Decision:
    """The decision at the time `NOW`."""
    return decide(backlogs, nodes, licences or {}, shares, NOW, policy)


def where(decision: Decision) -> dict[str, str]:
    """The node of each placed task, in order of placement."""
    return {placement.task_id: placement.node for placement in decision.placements}
