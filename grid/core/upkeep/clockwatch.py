"""The server's clock is set while it works: what was granted by the old time is granted again by the new one."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import F

from grid.core.models import Attempt, Node, Task
from tasks.states import ACTIVE_STATES, AttemptState, TaskState


class ClockWatch:
    """Tells that the clock was set, or the machine slept, by a clock that nobody can set."""

    def __init__(self, least_seconds: float) -> None:
        self._least = timedelta(seconds=least_seconds)
        self._epoch: datetime | None = None

    def jump(self, now: datetime, steady_seconds: float) -> timedelta:
        """How far the clock was set since the last look, to which the first one says nothing; smaller steps are 0.

        ``steady_seconds`` is a time of the monotonic clock, read together with ``now``.
        """
        epoch = now - timedelta(seconds=steady_seconds)
        before, self._epoch = self._epoch, epoch
        if before is None or abs(epoch - before) < self._least:
            return timedelta()
        return epoch - before


def grant_again(jump: timedelta, now: datetime, lease_seconds: float) -> None:
    """Give a whole lease from ``now`` on to all that had one before the jump, and move the deadlines with the clock.

    Otherwise a clock that is set ahead takes the tasks from every node at once, and after one that is set back a dead
    node would not be missed for as long as that. Belongs into a transaction of the dispatcher that leads.
    """
    until = now + timedelta(seconds=lease_seconds)
    Node.objects.filter(lease_until__isnull=False).update(lease_until=F("lease_until") + jump)
    Node.objects.filter(lease_until__gt=now).update(lease_until=until)
    Attempt.objects.exclude(state=AttemptState.ENDED).update(
        lease_until=until, phase_deadline=F("phase_deadline") + jump, sent_at=F("sent_at") + jump
    )
    waiting = Task.objects.filter(state=TaskState.WAITING, not_before__isnull=False)
    waiting.update(not_before=F("not_before") + jump)
    cancelled = Task.objects.filter(state__in=ACTIVE_STATES, cancel_requested_at__isnull=False)
    cancelled.update(cancel_requested_at=F("cancel_requested_at") + jump)
