"""Which task goes to which node, and why the others wait: pure functions of plain values and the time."""

from __future__ import annotations

from tasks.placement.explanation import Explainer, explain
from tasks.placement.records import (
    Amounts,
    Backlog,
    Ceiling,
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
from tasks.placement.rounds import decide
from tasks.placement.shares import current_shares, dominant_share, grid_capacity, position

__all__ = [
    "Amounts",
    "Backlog",
    "Ceiling",
    "Decision",
    "Demand",
    "Explainer",
    "Explanation",
    "Lease",
    "NodeReason",
    "NodeView",
    "Placement",
    "Policy",
    "QueuedTask",
    "Reservation",
    "Share",
    "current_shares",
    "decide",
    "dominant_share",
    "explain",
    "grid_capacity",
    "position",
]
