"""Which task goes to which node, and why the others wait: pure functions over plain values, the clock is an argument."""

from __future__ import annotations

from tasks.placement.records import (
    Amounts,
    Backlog,
    Decision,
    Demand,
    Explanation,
    Lease,
    NodeReason,
    NodeView,
    Placement,
    Policy,
    QueuedTask,
    Reservation,
    Share,
)

__all__ = [
    "Amounts",
    "Backlog",
    "Decision",
    "Demand",
    "Explanation",
    "Lease",
    "NodeReason",
    "NodeView",
    "Placement",
    "Policy",
    "QueuedTask",
    "Reservation",
    "Share",
]
