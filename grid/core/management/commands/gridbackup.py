"""``gridbackup``: copy the whole grid into a folder while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from grid.core.conf import conf
from grid.core.upkeep.backup import BackupError, back_up
from tasks.units import human_size


class Command(BaseCommand):
    """Copy records, blobs, logs and the secret key into a new folder."""

    help = "Copy the whole grid, while it runs, into a folder that must not be there yet. Who has it, has the secrets."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to, and how much."""
        parser.add_argument("folder", type=Path)
        parser.add_argument("--earlier", type=Path, help="an earlier back-up on that disk: its blobs are linked")
        blobs = parser.add_mutually_exclusive_group()
        blobs.add_argument("--blobs", dest="blobs", action="store_true", default=None, help="copy the bucket's too")
        blobs.add_argument("--no-blobs", dest="blobs", action="store_false", help="leave the blobs out")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it, and say what is in it."""
        blobs = options["blobs"] if options["blobs"] is not None else not conf().store_url
        try:
            made = back_up(options["folder"], timezone.now(), blobs=blobs, earlier=options["earlier"])
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from error
        content = f"{made.blobs} blobs ({human_size(made.bytes)})" if blobs else "no blobs: they stay in the bucket"
        self.stdout.write(f"{options['folder']}: {made.tasks} tasks, {content}")
