"""The reconciler: every state that is not final has a deadline, and here each of them is enforced.

It runs in the dispatcher's process, once a tick, and only in the one that leads: what it writes checks the fence too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.db.models import Q

from grid.core import ending, records, snapshot
from grid.core.broker.publisher import Publisher
from grid.core.conf import GridSettings
from grid.core.dispatcher import Dispatcher
from grid.core.models import Attempt, Task
from grid.core.people import accounting
from grid.core.upkeep import retention
from grid.core.upkeep.clockwatch import grant_again
from grid.core.upkeep.heat import Sampler
from tasks.states import ACTIVE_STATES, AttemptState, NodeMode, Phase
from tasks.verdicts import Verdict

logger = logging.getLogger(__name__)

BATCH = 200
REVIVE_EVERY = 5


class Reconciler:
    """Enforces deadlines, tick by tick."""

    def __init__(self, settings: GridSettings, dispatcher: Dispatcher, publisher: Publisher) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._publisher = publisher
        self._ticks = 0
        self._sampler = Sampler()
        self._trusting_until = datetime.min.replace(tzinfo=UTC)

    def clock_was_set(self, jump: timedelta, now: datetime) -> None:
        """The machine's clock is ``jump`` ahead of what it was: nothing is late because of that."""
        words = "the clock was set by %+.0f s: every lease begins anew"
        logger.warning(words, jump.total_seconds(), extra={"action": "clock_set"})
        with self._dispatcher.fenced():
            grant_again(jump, now, self._settings.lease_seconds)
        # A request that was under way may still write a time of the old clock; the next heartbeat sets it right.
        self._trusting_until = now + timedelta(seconds=self._settings.lease_seconds)

    def tick(self, now: datetime) -> None:
        """Look at everything that could be late."""
        self._ticks += 1
        steps: tuple[Callable[[datetime], object], ...] = (
            # These two believe that a node is away; they come first, for they may be left out.
            self._not_taken_up,
            self._silent,
            self._too_long_in_a_phase,
            self._not_handed_back,
            # After those that may put a task back into the queue: its time to start may be over.
            self._expire,
            self._promote,
        )
        for step in steps[2:] if now < self._trusting_until else steps:
            step(now)
        snapshot.rest()
        accounting.step(now, self._dispatcher.fenced)
        retention.step(self._settings, now, self._dispatcher.fenced)
        self._sampler.step(now, self._dispatcher.fenced)
        if self._ticks % REVIVE_EVERY == 0:
            snapshot.revive()

    def _expire(self, now: datetime) -> None:
        records.expire(now, moving=self._dispatcher.fenced)

    def _promote(self, now: datetime) -> None:
        records.promote(now, moving=self._dispatcher.fenced)

    def _lost(self, attempt: Attempt, why: str, now: datetime, verdict: Verdict, still: Q | None = None) -> bool:
        with self._dispatcher.fenced():
            return ending.lost(attempt, why, now, verdict, still=still)

    def _returned(
        self,
        attempt: Attempt,
        why: str,
        now: datetime,
        verdict: Verdict = Verdict.NODE_LOST,
        *,
        elsewhere: bool = False,
    ) -> None:
        with self._dispatcher.fenced():
            ending.returned(attempt, why, now, verdict, elsewhere=elsewhere)

    def _not_taken_up(self, now: datetime) -> None:
        """Orders that wait for their node: sent again, and taken back when the node is away or does not react."""
        waiting = Attempt.objects.filter(state=AttemptState.ASSIGNED).select_related("node", "task")
        again = []
        for attempt in waiting.order_by("assigned_at")[:BATCH]:
            if not snapshot.online(attempt.node, now):
                self._returned(attempt, f"node {attempt.node.name} went away before it took the task up", now)
            elif reason := snapshot.not_ready_reason(attempt.node, now):
                why = f"node {attempt.node.name} takes nothing new: {reason}"
                self._returned(attempt, why, now, Verdict.HANDED_BACK)
            elif attempt.sent_at is None or self._publisher.down:
                # The broker is at fault, not the node: the attempt waits for it.
                again.append(attempt)
            elif attempt.lease_until + timedelta(seconds=self._settings.lease_seconds) <= now:
                # It lives, but does not read its queue: it would get the same task again and again.
                why = f"node {attempt.node.name} did not take the task up in time"
                self._returned(attempt, why, now, elsewhere=True)
            elif attempt.sent_at + timedelta(seconds=self._settings.resend_seconds) <= now:
                again.append(attempt)
        if again and not (self._publisher.down and not self._publisher.answers()):
            self._dispatcher.resend(again, now)

    def _silent(self, now: datetime) -> None:
        """Running attempts whose lease has lapsed: their node is lost."""
        silent = Q(state=AttemptState.RUNNING, lease_until__lte=now)
        for attempt in Attempt.objects.filter(silent).select_related("node", "task")[:BATCH]:
            seconds = self._settings.lease_seconds
            why = f"node {attempt.node.name} was not heard of for {seconds:g} s while the task was on it"
            if self._lost(attempt, why, now, Verdict.NODE_LOST, silent):
                logger.warning(why, extra={"action": "node_lost", "attempt": attempt.id, "task": attempt.task_id})

    def _not_handed_back(self, now: datetime) -> None:
        """Draining nodes were told to hand back what they run: give up on those that do not react."""
        told = now - timedelta(seconds=self._settings.cancel_grace_seconds + self._settings.heartbeat)
        held = Q(state=AttemptState.RUNNING, phase__in=(Phase.STAGING, Phase.EXECUTING))
        late = Attempt.objects.filter(held, node__mode=NodeMode.DRAINING, node__drain_until__lte=told)
        for attempt in late.select_related("node", "task")[:BATCH]:
            why = f"node {attempt.node.name} is being drained and did not hand the task back"
            self._lost(attempt, why, now, Verdict.RUNTIME_ERROR, held)

    def _too_long_in_a_phase(self, now: datetime) -> None:
        late = Q(state=AttemptState.RUNNING, phase_deadline__lte=now)
        for attempt in Attempt.objects.filter(late).select_related("node", "task")[:BATCH]:
            why = f"node {attempt.node.name} did not finish {attempt.phase} in the time it is given for that"
            self._lost(attempt, why, now, Verdict.RUNTIME_ERROR, late)

    def cancels(self, now: datetime) -> None:
        """Cancelled tasks that still run: tell the node at once, give up on it after the grace. Done in every round."""
        # The first look is a small one, for it is nearly always all there is to do.
        wanted = Task.objects.filter(state__in=ACTIVE_STATES, cancel_requested_at__isnull=False)
        attempts = list(wanted.values_list("attempt_id", flat=True)[:BATCH])
        if not attempts:
            return
        active = Attempt.objects.filter(id__in=attempts).exclude(state=AttemptState.ENDED)
        for attempt in active.select_related("node", "task"):
            asked = attempt.task.cancel_requested_at
            if asked is not None and asked + timedelta(seconds=self._settings.cancel_grace_seconds) <= now:
                why = f"node {attempt.node.name} did not report the end of the cancelled task"
                self._lost(attempt, why, now, Verdict.NODE_LOST)
            elif attempt.cancel_sent_at is None and not self._publisher.down:
                reason = records.cancel_judgement(attempt.task).reason
                if self._publisher.cancel(attempt, reason):
                    with self._dispatcher.fenced():
                        Attempt.objects.filter(id=attempt.id).update(cancel_sent_at=now)
