"""How far the dispatcher is behind: what it would place now if it looked, and when it was last alive."""

from __future__ import annotations

from datetime import datetime

from grid.core import snapshot
from grid.core.conf import conf
from grid.core.dispatcher import LOCK_SECONDS
from grid.core.models import Lock
from tasks.placement import current_shares, decide


def placeable_seconds(now: datetime) -> float:
    """How long the oldest task has been queued that fits on a node now; 0 when nothing of the queue does.

    It is asked of the very function that places. While dispatcher and broker are well it stays near 0 however long the
    queue is; it grows while a dispatcher is away, or holds back because the broker does not answer.
    """
    backlogs = snapshot.heads()
    if not backlogs:
        return 0.0
    nodes = snapshot.nodes(now, conf().run_grace_seconds)
    shares = current_shares(nodes)
    decision = decide(backlogs, nodes, conf().licences, shares, now.timestamp(), conf().placement)
    queued = {task.id: task.queued_at for backlog in backlogs for task in backlog.heads}
    return max((now.timestamp() - queued[one.task_id] for one in decision.placements), default=0.0)


def renewed_seconds(lock: Lock, now: datetime) -> float:
    """Since when the acting dispatcher has not said that it lives; it does so between two rounds, every few seconds.

    A dispatcher that hangs in a round cannot say it. One that stepped down counts from never: infinity.
    """
    if lock.until is None:
        return float("inf")
    return max(0.0, min(LOCK_SECONDS, conf().lease_seconds) - (lock.until - now).total_seconds())
