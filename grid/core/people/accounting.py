"""Cpu-hours: what each attempt reserved is added to its owner's day once it has ended, by one process and in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import transaction
from django.db.models import F

from grid.core.models import Attempt, CpuSlice, CpuUse, Event, Mark
from grid.core.reading.horizon import horizon
from grid.core.records import Transaction
from grid.core.upkeep.heat import SLICE, slice_of

MARK = "accounting"
KEPT = timedelta(hours=25)
"""How long it is kept who used how much in which ten minutes."""

BATCH = 2000
_IN = 200


@dataclass(frozen=True, slots=True)
class Run:
    """What an attempt reserved from when to when, and for whom."""

    owner: int
    begin: datetime
    end: datetime
    cpus: float


def step(now: datetime, moving: Transaction = transaction.atomic) -> int:
    """Count the attempts whose ends were recorded since the last step; return how many.

    The timeline is the list of what is new: its numbers grow, and the place in it moves together with the sums.
    """
    settled, _ = horizon.look()
    mark = Mark.objects.filter(name=MARK).first()
    if mark is None:
        Mark.objects.create(name=MARK, place=str(settled), at=now)
        return 0
    begin = int(mark.place)
    if settled == begin:
        return 0
    # A table that was emptied begins anew.
    begin = begin if begin < settled else 0
    rows = Event.objects.filter(id__gt=begin, id__lte=settled, kind="attempt_ended").order_by("id")
    ended = list(rows.values_list("id", "data__attempt")[:BATCH])
    place = ended[-1][0] if len(ended) == BATCH else settled
    runs = _runs([attempt for _, attempt in ended])
    with moving():
        for (owner_id, day), seconds in sorted(_by_day(runs).items()):
            use, _ = CpuUse.objects.get_or_create(owner_id=owner_id, day=day)
            CpuUse.objects.filter(pk=use.pk).update(seconds=F("seconds") + seconds)
        slices = by_slice(runs, now - KEPT)
        for (owner_id, at), seconds in sorted(slices.items()):
            part, _ = CpuSlice.objects.get_or_create(owner_id=owner_id, at=at)
            CpuSlice.objects.filter(pk=part.pk).update(seconds=F("seconds") + seconds)
        if slices:
            CpuSlice.objects.filter(at__lt=now - KEPT).delete()
        Mark.objects.filter(name=MARK).update(place=str(place), at=now)
    return len(ended)


def _runs(attempts: list[str]) -> list[Run]:
    """The attempts of these that ever began."""
    runs = []
    columns = ("task__owner_id", "started_at", "ended_at", "task__limits__cpus")
    for begin in range(0, len(attempts), _IN):
        rows = Attempt.objects.filter(id__in=attempts[begin : begin + _IN], started_at__isnull=False)
        for owner_id, started_at, ended_at, cpus in rows.values_list(*columns):
            if started_at is not None and ended_at is not None:
                runs.append(Run(owner_id, started_at, ended_at, cpus or 0.0))
    return runs


def _by_day(runs: Iterable[Run]) -> dict[tuple[int, date], float]:
    """The processor seconds that the attempts reserved, by owner and the day of their end."""
    sums: dict[tuple[int, date], float] = defaultdict(float)
    for run in runs:
        sums[run.owner, run.end.date()] += max(0.0, (run.end - run.begin).total_seconds()) * run.cpus
    return sums


def by_slice(runs: Iterable[Run], since: datetime) -> dict[tuple[int, datetime], float]:
    """The processor seconds that the attempts reserved, by owner and ten minutes; what is older is left out."""
    sums: dict[tuple[int, datetime], float] = defaultdict(float)
    for run in runs:
        at = slice_of(max(run.begin, since))
        while at < run.end:
            inside = min(run.end, at + SLICE) - max(run.begin, at)
            sums[run.owner, at] += inside.total_seconds() * run.cpus
            at += SLICE
    return sums
