"""Cpu-hours: what each attempt reserved is added to its owner's day once it has ended, by one process and in order."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime

from django.db import transaction
from django.db.models import F

from grid.core.horizon import horizon
from grid.core.models import Attempt, CpuUse, Event, Mark
from grid.core.records import Transaction

MARK = "accounting"
BATCH = 2000
_IN = 200


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
    sums = _sums([attempt for _, attempt in ended])
    with moving():
        for (owner_id, day), seconds in sorted(sums.items()):
            use, _ = CpuUse.objects.get_or_create(owner_id=owner_id, day=day)
            CpuUse.objects.filter(pk=use.pk).update(seconds=F("seconds") + seconds)
        Mark.objects.filter(name=MARK).update(place=str(place), at=now)
    return len(ended)


def _sums(attempts: list[str]) -> dict[tuple[int, date], float]:
    """The processor seconds that the attempts reserved, by owner and day."""
    sums: dict[tuple[int, date], float] = defaultdict(float)
    columns = ("task__owner_id", "started_at", "ended_at", "task__limits__cpus")
    for begin in range(0, len(attempts), _IN):
        rows = Attempt.objects.filter(id__in=attempts[begin : begin + _IN], started_at__isnull=False)
        for owner_id, started_at, ended_at, cpus in rows.values_list(*columns):
            if started_at is not None and ended_at is not None:
                seconds = max(0.0, (ended_at - started_at).total_seconds()) * (cpus or 0.0)
                sums[owner_id, ended_at.date()] += seconds
    return sums
