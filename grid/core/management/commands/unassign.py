"""``unassign``: take tasks back from their nodes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from grid.core import ending, wake
from grid.core.models import Attempt
from tasks.errors import GridError
from tasks.states import AttemptState
from tasks.units import parse_duration
from tasks.verdicts import Verdict


class Command(BaseCommand):
    """Queue tasks again that nodes have had for long."""

    help = (
        "Queue those tasks again that a node was given longer ago than TIME (90s, 2h...). The node ends what it runs "
        "of them. Seldom needed: leases take tasks back from nodes that are lost."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Which."""
        parser.add_argument("time", help="how long ago they were given to their node, at the least")
        parser.add_argument("--node", help="only those of this node")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the ids of the tasks that were taken back."""
        try:
            age = timedelta(seconds=parse_duration(options["time"]))
        except (ValueError, GridError) as error:
            raise CommandError(str(error)) from None
        now = timezone.now()
        held = Attempt.objects.exclude(state=AttemptState.ENDED).filter(assigned_at__lte=now - age)
        if options["node"]:
            held = held.filter(node__name=options["node"])
        for attempt in held.select_related("node", "task").order_by("id"):
            if _taken_back(attempt, now):
                self.stdout.write(attempt.task_id)
        wake.dispatcher()


def _taken_back(attempt: Attempt, now: datetime) -> bool:
    why = "an operator took the task back from its node"
    if attempt.state == AttemptState.ASSIGNED and ending.returned(attempt, why, now, Verdict.HANDED_BACK):
        return True
    return ending.lost(attempt, why, now, Verdict.HANDED_BACK)
