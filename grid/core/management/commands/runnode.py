"""``runnode``: be a node. For those who expect all daemons among the commands of the server."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    """Start the agent of a node in place of this process."""

    help = "Run a node on this machine, as `python -m nodes start` does; all options are those of that command."

    def add_arguments(self, parser: CommandParser) -> None:
        """Everything is passed on."""
        parser.add_argument("options", nargs=argparse.REMAINDER)

    def run_from_argv(self, argv: list[str]) -> None:
        """Pass on what follows the name, help included."""
        self.handle(options=argv[2:])

    def handle(self, *args: Any, **options: Any) -> None:
        """Become the agent: signals and the exit status are its own."""
        os.execv(sys.executable, [sys.executable, "-m", "nodes", "start", *options["options"]])  # noqa: S606
