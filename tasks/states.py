"""The states of a task and of an attempt, and the phases of a running one."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task is on its way; a final state never changes."""

    WAITING = "waiting"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        """True when nothing will happen to the task any more."""
        return self in FINAL_STATES


FINAL_STATES = frozenset(
    {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.EXPIRED, TaskState.SKIPPED}
)
ACTIVE_STATES = frozenset({TaskState.ASSIGNED, TaskState.RUNNING})


class AttemptState(StrEnum):
    """An attempt is sent to a node, taken up by it, and ended (with or without an accepted outcome)."""

    ASSIGNED = "assigned"
    RUNNING = "running"
    ENDED = "ended"


class Phase(StrEnum):
    """What a node is doing with a running attempt, in this order."""

    STAGING = "staging"
    EXECUTING = "executing"
    COLLECTING = "collecting"
    UPLOADING = "uploading"


class StopCause(StrEnum):
    """Why a node ended a container that would have gone on.

    ``storage_limit``: it wrote more than it may store outside of its folder, which nothing else keeps it from.
    ``handed_back``: the node is being drained or is closing, and the task is to be tried elsewhere.
    """

    TIME_LIMIT = "time_limit"
    CPU_TIME_LIMIT = "cpu_time_limit"
    STORAGE_LIMIT = "storage_limit"
    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    HANDED_BACK = "handed_back"


class NodeMode(StrEnum):
    """What the operator lets a node do.

    ``open``: take what fits. ``cordoned``: take nothing new; what runs there goes on. ``draining``: take nothing new,
    and be empty in the end: what runs there may finish, until a deadline if there is one, and is then tried elsewhere.
    """

    OPEN = "open"
    CORDONED = "cordoned"
    DRAINING = "draining"
