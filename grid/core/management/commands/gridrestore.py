"""``gridrestore``: make a grid anew from what ``gridbackup`` has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from grid.core.upkeep.backup import BackupError, restore


class Command(BaseCommand):
    """Restore a back-up into an empty folder and an empty database."""

    help = "Restore a back-up of gridbackup into an empty GRID_DIR and an empty database; no server may run meanwhile."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where from."""
        parser.add_argument("folder", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        """Restore it, and say what became of it."""
        try:
            found = restore(options["folder"], timezone.now())
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"restored {found.tasks} tasks as they were at {found.made_at:%Y-%m-%d %H:%M:%S} UTC")
