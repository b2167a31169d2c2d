"""The same failures together, for people who look at many: counted among the newest, never among all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.contrib.auth.models import User

from grid.core.reading import lists
from tasks.alike import Alike, Failure, group
from tasks.states import TaskState

MOST_COUNTED = 500
WINDOW = 2000


@dataclass(frozen=True, slots=True)
class Failures:
    """Groups of the same failures among the ``counted`` newest; ``complete`` says that there are no older ones."""

    groups: tuple[Alike, ...] = ()
    counted: int = 0
    complete: bool = True


def failures(user: User, filters: Mapping[str, str]) -> Failures:
    """The newest failures among the tasks that fit; nothing where the filter asks for one kind, or for others."""
    if filters.get("verdict") or filters.get("cause") or filters.get("state", TaskState.FAILED) != TaskState.FAILED:
        return Failures()
    part = lists.look(user, {**filters, "state": TaskState.FAILED}, lists.Place(), WINDOW)
    rows = list(part.rows.values_list("verdict", "exit_code", "limits")[: MOST_COUNTED + 1])
    found = [Failure(verdict, exit_code, limits) for verdict, exit_code, limits in rows[:MOST_COUNTED]]
    return Failures(group(found), len(found), complete=len(rows) <= MOST_COUNTED and not part.edge)
