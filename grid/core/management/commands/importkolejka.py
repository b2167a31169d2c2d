"""``importkolejka``: bring a kolejka server over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from grid.core.kolejka.importing import Importer
from grid.core.kolejka.source import Source
from tasks.errors import GridError

_MOST_PROBLEMS = 100


class Command(BaseCommand):
    """Import from a kolejka server."""

    help = (
        "Import accounts (with their passwords), groups, files, tasks and results from the database of a kolejka "
        "server, which is only read. What came before is not brought again, so it can be repeated."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """From where, and how much."""
        parser.add_argument(
            "--database", required=True, help="path of SQLite's file, or postgres://USER:PASSWORD@HOST/DB"
        )
        parser.add_argument("--blobs", required=True, type=Path, help="its folder BLOB_STORE_PATH")
        parser.add_argument("--queue", action="store_true", help="submit the tasks that have no result here anew")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the counts, and what could not be brought over."""
        try:
            source = Source(options["database"], options["blobs"])
        except GridError as error:
            raise CommandError(str(error)) from None
        try:
            importer = Importer(source, dry=options["dry_run"], queue=options["queue"], tell=self.stderr.write)
            tally = importer.run(timezone.now())
        finally:
            source.close()
        for problem in tally.problems[:_MOST_PROBLEMS]:
            self.stderr.write(problem)
        if (more := len(tally.problems) - _MOST_PROBLEMS) > 0:
            self.stderr.write(f"... and {more} more")
        for kind, number in sorted(tally.counts.items()):
            self.stdout.write(f"{kind}: {number}")
