"""When a queued task may start: a guess from what runs now and how long the last attempts took."""

from __future__ import annotations

from dataclasses import dataclass

from grid.core.models import Attempt
from tasks.states import AttemptState
from tasks.units import human_seconds

# The newest attempts that are looked at, whatever their number, and how many ends among them say something.
RECENT = 200
LEAST_ENDS = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """A guess: ``seconds`` until the start, and what it rests on in ``words``."""

    seconds: float
    words: str


def of_start(before: int) -> Estimate | None:
    """When a task starts that ``before`` others are in front of; None where too little is known.

    As many attempts as run now go on to run, each for as long as the last ones took; that tasks fit into different
    gaps is left out.
    """
    active = Attempt.objects.filter(state__in=(AttemptState.ASSIGNED, AttemptState.RUNNING)).count()
    rows = Attempt.objects.order_by("-id").values_list("started_at", "ended_at")[:RECENT]
    took = [max(0.0, (ended - started).total_seconds()) for started, ended in rows if started and ended]
    if not active or len(took) < LEAST_ENDS:
        return None
    mean = sum(took) / len(took)
    seconds = (before + 1) * mean / active
    return Estimate(
        seconds,
        f"in about {human_seconds(seconds)}, if things go on as they are: {active} run now, "
        f"and the last {len(took)} took {human_seconds(mean)} on average",
    )
