"""``retention``: remove what has been kept for long enough, at once and as a whole, or say what that is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from grid.core.conf import conf
from grid.core.upkeep import retention
from tasks.units import human_size


class Command(BaseCommand):
    """Remove what is due."""

    help = "Remove files, logs and records of ended tasks that were kept for their days, and contents nothing uses."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whether to do it."""
        parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what was removed. Contents go a minute after the last record that names them."""
        freed = retention.walk(conf(), timezone.now(), dry=options["dry_run"])
        counts = asdict(freed)
        size = human_size(counts.pop("bytes"))
        words = ", ".join(f"{name}: {count}" for name, count in counts.items())
        self.stdout.write(f"{'would remove' if options['dry_run'] else 'removed'} {words} ({size})")
