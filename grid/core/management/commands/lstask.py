"""``lstask``: list tasks, newest first."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from grid.core.models import Task
from tasks.states import ACTIVE_STATES, FINAL_STATES, TaskState


class Command(BaseCommand):
    """List tasks."""

    help = "List tasks, newest first: id, state, owner, node, verdict, name. Without options those that wait."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which."""
        parser.add_argument("--assigned", action="store_true", help="those that a node has")
        parser.add_argument("--resolved", action="store_true", help="those that have ended")
        parser.add_argument("--all", action="store_true", help="all")
        parser.add_argument("--owner", help="those of one user")
        parser.add_argument("--limit", type=int, default=100, help="at most so many (default 100)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one line for each."""
        states: set[TaskState] = set()
        if options["assigned"]:
            states |= set(ACTIVE_STATES)
        if options["resolved"]:
            states |= set(FINAL_STATES)
        if options["all"]:
            states = set(TaskState)
        chosen = Task.objects.filter(state__in=states or {TaskState.WAITING, TaskState.QUEUED})
        if options["owner"]:
            chosen = chosen.filter(owner__username=options["owner"])
        rows = chosen.order_by("-id").values_list("id", "state", "owner__username", "node_name", "verdict", "name")
        for row in rows[: max(0, options["limit"])]:
            self.stdout.write("\t".join(str(word) or "-" for word in row))
