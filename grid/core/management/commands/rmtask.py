"""``rmtask``: take tasks off the record."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from grid.core import records
from grid.core.models import Task
from grid.core.upkeep import removal
from tasks.errors import Conflict
from tasks.states import TaskState


class Command(BaseCommand):
    """Remove tasks."""

    help = "Remove ended tasks with all that belongs to them. Their files leave the disk with the next retention."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which."""
        parser.add_argument("task", nargs="+", help="id of a task")
        parser.add_argument("--cancel", action="store_true", help="cancel those first that have not ended")

    def handle(self, *args: Any, **options: Any) -> None:
        """Remove all that can be, then complain about the others."""
        refused = []
        for task_id in options["task"]:
            task = Task.objects.filter(id=task_id).first()
            if task is None:
                refused.append(f"there is no task {task_id}")
                continue
            if options["cancel"] and not TaskState(task.state).final:
                task = records.cancel(task, by="the operator", reason="rmtask", now=timezone.now())
            try:
                removal.remove(task, now=timezone.now())
            except Conflict as error:
                refused.append("it is being cancelled; try again soon" if options["cancel"] else str(error))
        if refused:
            raise CommandError("; ".join(refused))
