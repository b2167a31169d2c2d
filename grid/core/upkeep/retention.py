"""How long ended tasks are kept: file names, logs and records go after their days, and then the contents they used.

The walk over all tasks is done a piece at each tick of the dispatcher that leads, and begins anew after a pause.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Sum

from grid.core.conf import GridSettings
from grid.core.contents import sweeping
from grid.core.contents.sweeping import Grace
from grid.core.models import Mark, Task
from grid.core.people import standing
from grid.core.records import Transaction
from grid.core.upkeep import removal
from tasks.terms import KEPT, Retention

logger = logging.getLogger(__name__)

TASKS, BLOBS = "retention.tasks", "retention.blobs"
BATCH = 500
_DAY = 86_400.0


@dataclass(slots=True)
class Freed:
    """What a walk removed, or would remove: tasks by what went of them, contents and their bytes."""

    files: int = 0
    inputs: int = 0
    logs: int = 0
    tasks: int = 0
    blobs: int = 0
    bytes: int = 0

    def add(self, other: Freed) -> None:
        """Add what another walk removed."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass(slots=True)
class _Due:
    """A piece of the walk: which tasks lose what, and the last task that was looked at (empty at the end)."""

    ids: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KEPT})
    place: str = ""


def walk(settings: GridSettings, now: datetime, *, dry: bool = False) -> Freed:
    """Remove all that is due at once, or with ``dry`` say what that is. Contents follow after their grace."""
    freed = Freed()
    for due in _pieces(settings, now):
        freed.add(_counted(due) if dry else _removed(due, now))
    grace = Grace.of_days(settings.retention_unused_days, settings.retention_references_days)
    if dry:
        rows = sweeping.unused(now, grace)
        freed.blobs = rows.count()
        freed.bytes = rows.aggregate(size=Sum("size"))["size"] or 0
        return freed
    place = sweeping.doom(now, grace)
    while place:
        place = sweeping.doom(now, grace, after=place)
    while (gone := sweeping.delete_doomed(now, grace))[0]:
        freed.add(Freed(blobs=gone[0], bytes=gone[1]))
    return freed


def step(settings: GridSettings, now: datetime, moving: Transaction = transaction.atomic) -> Freed:
    """Do the next piece of both walks, if there is one to do by now."""
    freed = Freed()
    pause = timedelta(seconds=settings.retention_pause_seconds)
    if _wanted(settings, now) and (place := _place(TASKS, now, pause)) is not None:
        due = _due(settings, place, now)
        freed.add(_removed(due, now, moving))
        _move(TASKS, due.place, now)
    grace = Grace.of_days(settings.retention_unused_days, settings.retention_references_days)
    if (place := _place(BLOBS, now, pause)) is not None:
        _move(BLOBS, sweeping.doom(now, grace, after=place, moving=moving), now)
    blobs, size = sweeping.delete_doomed(now, grace, limit=50, moving=moving)
    freed.add(Freed(blobs=blobs, bytes=size))
    if freed != Freed():
        logger.info("removed what was kept for long enough: %s", freed, extra={"action": "retention"})
    return freed


def _wanted(settings: GridSettings, now: datetime) -> bool:
    """Whether anything of anybody's is not kept for ever."""
    book = standing.book(now)
    rules = [*book.users.values(), *(club.rules for club in book.clubs)]
    return settings.retention != Retention() or any(one.retention != Retention() for one in rules)


def _place(name: str, now: datetime, pause: timedelta) -> str | None:
    """Where a walk goes on; None while it pauses after its end."""
    mark = Mark.objects.filter(name=name).first()
    if mark is None:
        return ""
    # A clock that was set back must not stop it.
    return mark.place if mark.place or not mark.at <= now < mark.at + pause else None


def _move(name: str, place: str, now: datetime) -> None:
    Mark.objects.update_or_create(name=name, defaults={"place": place, "at": now})


def _pieces(settings: GridSettings, now: datetime) -> Iterator[_Due]:
    place = ""
    while True:
        due = _due(settings, place, now)
        yield due
        if not due.place:
            return
        place = due.place


def _due(settings: GridSettings, after: str, now: datetime) -> _Due:
    """What of the next ended tasks behind ``after`` has been kept for long enough."""
    ended = Task.objects.filter(id__gt=after, finished_at__isnull=False).order_by("id")
    rows = list(ended.values_list("id", "owner_id", "verdict_class", "finished_at")[:BATCH])
    due = _Due(place=rows[-1][0] if len(rows) == BATCH else "")
    for task_id, owner_id, verdict_class, finished_at in rows:
        if finished_at is None:
            continue
        age = (now - finished_at).total_seconds() / _DAY
        over = [kind for kind in KEPT if age >= standing.days_kept(owner_id, kind, verdict_class, settings, now)]
        for kind in ["tasks"] if "tasks" in over else over:
            due.ids[kind].append(task_id)
    return due


def _removed(due: _Due, now: datetime, moving: Transaction = transaction.atomic) -> Freed:
    counts = {kind: removal.clear(kind, due.ids[kind], now, moving) for kind in ("files", "inputs", "logs")}
    return Freed(**counts, tasks=removal.remove_all(due.ids["tasks"], moving))


def _counted(due: _Due) -> Freed:
    return Freed(**{kind: len(ids) for kind, ids in due.ids.items()})
