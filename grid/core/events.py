"""Append to a task's timeline, and tell whoever is waiting for news once it is committed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from grid.core.models import Event
from grid.core.reading.hub import hub
from grid.core.rows import insert

Datum = str | int | float | bool | None


def append(task_id: str, kind: str, now: datetime, **data: Datum) -> None:
    """Append one event; belongs into the transaction that makes the move."""
    append_all([make(task_id, kind, now, **data)])


def make(task_id: str, kind: str, now: datetime, **data: Datum) -> Event:
    """An event that is not written yet."""
    return Event(task_id=task_id, kind=kind, at=now, data=data)


def append_all(events: Iterable[Event]) -> None:
    """Append several events in one statement."""
    made = list(events)
    insert(made)
    tell({event.task_id for event in made})


def tell(tasks: set[str]) -> None:
    """Wake whoever waits for news of these tasks, once the transaction is committed."""
    transaction.on_commit(lambda: hub.publish(tasks))
