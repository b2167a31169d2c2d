"""The server's clock is set while it works: what was granted by the old time is granted again by the new one."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import F, Q

from grid.core.models import Attempt, Node, Task
from grid.core.nodes import phase_deadline
from tasks.states import ACTIVE_STATES, AttemptState, Phase, TaskState


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
    """Give a whole lease and a whole phase from ``now`` on to all that had one, and move other times with the clock.

    Otherwise a clock that is set ahead takes the tasks from every node at once, and after one that is set back a dead
    node would not be missed for as long as that. What was written since, by the new time, is right already. Belongs
    into a transaction of the dispatcher that leads.
    """
    until = now + timedelta(seconds=lease_seconds)
    Node.objects.filter(_by_old_time("lease_until", jump, now)).update(lease_until=F("lease_until") + jump)
    Node.objects.filter(lease_until__gt=now).update(lease_until=until)
    held = Attempt.objects.exclude(state=AttemptState.ENDED)
    held.update(lease_until=until)
    held.filter(sent_at__isnull=False).update(sent_at=now)
    # Nothing tells by which time these were written: a phase may be far longer than the clock was set.
    running = list(held.filter(state=AttemptState.RUNNING).select_related("task"))
    for attempt in running:
        attempt.phase_deadline = phase_deadline(attempt, Phase(attempt.phase), now)
    Attempt.objects.bulk_update(running, ["phase_deadline"], batch_size=500)
    waiting = Task.objects.filter(_by_old_time("not_before", jump, now), state=TaskState.WAITING)
    waiting.update(not_before=F("not_before") + jump)
    cancelled = Task.objects.filter(_by_old_time("cancel_requested_at", jump, now), state__in=ACTIVE_STATES)
    cancelled.update(cancel_requested_at=F("cancel_requested_at") + jump)


def _by_old_time(field: str, jump: timedelta, now: datetime) -> Q:
    """Those whose time is nearer to what the clock said before than to what it says now."""
    return Q(**{f"{field}__{'lt' if jump > timedelta() else 'gt'}": now - jump / 2})
