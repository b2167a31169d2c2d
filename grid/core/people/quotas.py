"""Quotas: what is used of them, what they refuse at the door, and whom the dispatcher lets wait for them."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F, QuerySet, Sum

from grid.core.models import Attempt, BlobOwner, CpuUse, Task
from grid.core.people import standing
from grid.core.people.standing import Bound
from tasks.errors import Fault, TooLarge
from tasks.placement import Ceiling, NodeView
from tasks.states import AttemptState, TaskState
from tasks.terms import cpu_reason, queue_fault, running_reason, storage_fault

REMEMBER_SECONDS = 2.0
# More is not counted for people who only look.
MOST_COUNTED = 10_000
_UNBOUNDED = 2**31

_lock = threading.Lock()
_stored: dict[frozenset[int], tuple[datetime, int]] = {}


@dataclass(frozen=True, slots=True)
class Usage:
    """What is used of a quota."""

    running: int
    queued: int
    cpu_hours: float
    storage: int


def submit_faults(owner_id: int, more: int, now: datetime) -> list[Fault]:
    """Why ``more`` tasks of a user are not taken now."""
    faults: list[Fault | None] = []
    for bound in standing.bounds(owner_id, now):
        if bound.quota.queued is not None:
            queued = waiting(bound.owners, bound.quota.queued + 1)
            faults.append(queue_fault(bound.whose, bound.quota, queued, more))
        if bound.quota.storage is not None:
            faults.append(storage_fault(bound.whose, bound.quota, stored(bound.owners, now)))
    return [fault for fault in faults if fault is not None]


def room_to_store(owner_id: int, now: datetime) -> int | None:
    """How many bytes more a user may store, None without bound; raises TooLarge when there is no room at all."""
    room: int | None = None
    for bound in standing.bounds(owner_id, now):
        if bound.quota.storage is None:
            continue
        used = stored(bound.owners, now)
        if fault := storage_fault(bound.whose, bound.quota, used):
            raise TooLarge(str(fault))
        left = bound.quota.storage - used
        room = left if room is None else min(room, left)
    return room


def refuse_stored(owner_id: int, size: int, now: datetime) -> None:
    """Say which quota a content of this size does not fit in; raises TooLarge."""
    for bound in standing.bounds(owner_id, now):
        if bound.quota.storage is not None:
            fault = storage_fault(bound.whose, bound.quota, stored(bound.owners, now), size)
            if fault is not None:
                raise TooLarge(str(fault))


def note_stored(owner_id: int, size: int) -> None:
    """Count a new content of a user at once, before the sums are made anew."""
    with _lock:
        for owners, (at, size_before) in list(_stored.items()):
            if owner_id in owners:
                _stored[owners] = (at, size_before + size)


def forget() -> None:
    """Make the sums anew; who deletes contents calls it."""
    with _lock:
        _stored.clear()


def waiting(owners: Collection[int], most: int) -> int:
    """How many tasks of these users wait or are queued, counted up to ``most``."""
    rows = Task.objects.filter(
        owner_id__in=owners, state__in=(TaskState.WAITING, TaskState.QUEUED), finished_at__isnull=True
    )
    return rows.values("id")[:most].count()


def stored(owners: frozenset[int], now: datetime) -> int:
    """The bytes of the contents that these users have, each user's counted for itself; seconds old at most."""
    with _lock:
        known = _stored.get(owners)
        if known is not None and abs((now - known[0]).total_seconds()) < REMEMBER_SECONDS:
            return known[1]
    size = BlobOwner.objects.filter(owner_id__in=owners).aggregate(size=Sum("blob__size"))["size"] or 0
    with _lock:
        _stored[owners] = (now, size)
    return size


def cpu_hours(bound: Bound, now: datetime) -> float:
    """The cpu-hours that count: of attempts that ended on the days of the window, and of those that run."""
    since = (now - timedelta(days=bound.quota.days)).date()
    ended = CpuUse.objects.filter(owner_id__in=bound.owners, day__gt=since).aggregate(sum=Sum("seconds"))["sum"] or 0.0
    rows = held_by(bound.owners).filter(started_at__isnull=False).values_list("started_at", "task__limits__cpus")
    runs = sum((now - started).total_seconds() * (cpus or 0.0) for started, cpus in rows if started is not None)
    return (ended + max(0.0, runs)) / 3600


def ceilings(owners: Collection[str], nodes: Sequence[NodeView], now: datetime) -> tuple[Ceiling, ...]:
    """How many more attempts these users may begin, by all the quotas that hold for them."""
    running: dict[int, int] = {}
    for node in nodes:
        for lease in node.leases:
            running[int(lease.owner)] = running.get(int(lease.owner), 0) + 1
    found = []
    for bound in standing.all_bounds((int(owner) for owner in owners), now):
        whom = frozenset(map(str, bound.owners))
        if bound.quota.running is not None:
            runs = sum(running.get(owner, 0) for owner in bound.owners)
            reason = running_reason(bound.whose, bound.quota, runs)
            found.append(Ceiling(whom, max(0, bound.quota.running - runs), reason))
        if bound.quota.cpu_hours is not None:
            reason = cpu_reason(bound.whose, bound.quota, cpu_hours(bound, now))
            found.append(Ceiling(whom, 0 if reason else _UNBOUNDED, reason))
    return tuple(found)


def held_back(ceilings: Sequence[Ceiling], owner: str) -> tuple[str, ...]:
    """Why a user may begin nothing now; nothing when they may."""
    return tuple(one.reason for one in ceilings if owner in one.owners and one.left <= 0)


def held_by(owners: Collection[int]) -> QuerySet[Attempt]:
    """The attempts of these users that are on nodes.

    By an expression, for which no index can be taken: a database would rather go through all that they ever ran.
    """
    held = Attempt.objects.exclude(state=AttemptState.ENDED)
    return held.alias(whose=F("task__owner_id") + 0).filter(whose__in=owners)


def usage(bound: Bound, now: datetime) -> Usage:
    """What is used of a quota, for people who look; the queue is counted up to ten thousand."""
    return Usage(
        running=held_by(bound.owners).count(),
        queued=waiting(bound.owners, MOST_COUNTED),
        cpu_hours=round(cpu_hours(bound, now), 3),
        storage=stored(bound.owners, now),
    )
