"""The dispatcher: decide which queued tasks go where, write the leases, wake the nodes.

It is woken by whatever changes the queue or the nodes, and looks by itself once a tick. Of several dispatchers the one
that holds the lock acts; each write happens in a transaction that checks its fence (``Dispatcher.fenced``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.db import transaction

from grid.core import locks, records, snapshot
from grid.core.broker.publisher import Publisher
from grid.core.conf import GridSettings
from grid.core.models import Attempt, Node, Task
from grid.core.people import quotas
from grid.core.wake import DISPATCHER
from tasks.errors import Stale
from tasks.placement import Decision, NodeView, Placement, Reservation, current_shares, decide
from tasks.states import AttemptState

logger = logging.getLogger(__name__)

# The heads of a demand that are loaded at first, and at most: a round needs no more than the nodes have free slots.
LEAST_HEADS = 32
MOST_HEADS = 1000
LOCK_SECONDS = 5.0


class Dispatcher:
    """One dispatcher process's part in placing tasks. ``address`` is where it can be woken."""

    def __init__(self, settings: GridSettings, publisher: Publisher, holder: str, address: str) -> None:
        self._settings = settings
        self._publisher = publisher
        self._holder = holder
        self._address = address
        self._fence: int | None = None
        self._renew_at = datetime.min.replace(tzinfo=UTC)
        self.reservations: tuple[Reservation, ...] = ()

    def lead(self, now: datetime) -> bool:
        """Take or keep the role; False while another dispatcher has it. The row is written three times in its life."""
        if self._fence is not None and timedelta() < self._renew_at - now <= timedelta(seconds=self._lock_seconds):
            return True
        fence = locks.acquire(DISPATCHER, self._holder, self._address, now=now, seconds=self._lock_seconds)
        if fence != self._fence:
            words = "leads" if fence is not None else "stands by"
            logger.info("this dispatcher %s", words, extra={"action": "lead", "fence": fence})
        self._fence = fence
        self._renew_at = now + timedelta(seconds=self._lock_seconds / 3)
        return fence is not None

    @property
    def _lock_seconds(self) -> float:
        return min(LOCK_SECONDS, self._settings.lease_seconds)

    def step_down(self) -> None:
        """Give the role back at once."""
        locks.release(DISPATCHER, self._holder)
        self._fence = None

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """A transaction for what only the dispatcher that leads may write; raises Stale when another one does by now.

        A process may sleep for any time between two lines; whatever it has decided before is not written then.
        """
        with transaction.atomic():
            try:
                if self._fence is None:
                    raise Stale("this dispatcher does not lead")
                locks.check(DISPATCHER, self._holder, self._fence)
            except Stale:
                # The next round asks who leads, instead of trusting the lease.
                self._renew_at = datetime.min.replace(tzinfo=UTC)
                raise
            yield

    def dispatch(self, clock: Callable[[], datetime]) -> int:
        """Place all that fits now and wake the nodes; return the number of placements. The caller has the lead."""
        if self._publisher.down and not self._publisher.answers():
            return 0
        placed = 0
        while True:
            now = clock()
            decision = self._decide(now)
            attempts = self._assign(decision.placements, now)
            placed += len(attempts)
            self._send(attempts, clock())
            if not attempts or not (decision.more or decision.full) or self._publisher.down:
                return placed

    def _decide(self, now: datetime) -> Decision:
        margin = self._settings.run_grace_seconds
        backlogs = snapshot.backlogs(LEAST_HEADS)
        if not backlogs:
            self.reservations = ()
            return Decision()
        nodes = snapshot.nodes(now, margin)
        if (room := _free_slots(nodes)) > LEAST_HEADS:
            backlogs = snapshot.backlogs(min(room, MOST_HEADS))
        ceilings = quotas.ceilings({one.demand.owner for one in backlogs}, nodes, now)
        policy = replace(self._settings.placement, ceilings=ceilings)
        decision = decide(backlogs, nodes, self._settings.licences, current_shares(nodes), now.timestamp(), policy)
        self.reservations = decision.reservations
        return decision

    def _assign(self, placements: Sequence[Placement], now: datetime) -> list[Attempt]:
        if not placements:
            return []
        nodes = {node.name: node for node in Node.objects.filter(name__in={one.node for one in placements})}
        with self.fenced():
            pairs = [(one.task_id, nodes[one.node]) for one in placements]
            attempts = records.assign_all(pairs, now, self._settings.lease_seconds)
        # Not by prefetch_related, whose comparison SQLite takes for an expression as deep as there are attempts. Of the
        # task a message needs the name alone.
        tasks = Task.objects.only("name").in_bulk([one.task_id for one in attempts])
        for attempt in attempts:
            attempt.task = tasks[attempt.task_id]
        return attempts

    def _send(self, attempts: Sequence[Attempt], now: datetime) -> None:
        if attempts and self._publisher.send(attempts):
            with self.fenced():
                Attempt.objects.filter(id__in=[one.id for one in attempts]).update(sent_at=now)

    def resend(self, attempts: Sequence[Attempt], now: datetime) -> None:
        """Wake the nodes of attempts again that were not taken up; the messages may be lost."""
        waiting = [one for one in attempts if one.state == AttemptState.ASSIGNED]
        self._send(waiting, now)


def _free_slots(nodes: Sequence[NodeView]) -> int:
    return sum(max(0, node.capacity.slots - len(node.leases)) for node in nodes if node.ready)
