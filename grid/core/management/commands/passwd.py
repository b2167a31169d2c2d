"""``passwd``: give a user another password."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from grid.core.management.passwords import add_password_options, password_from
from grid.core.people import members
from tasks.errors import GridError


class Command(BaseCommand):
    """Set a password."""

    help = "Give a user another password, which is asked for; their sessions end, their tokens stay."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose."""
        parser.add_argument("name")
        add_password_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Set it, and print it if it was made here."""
        password = password_from(options)
        try:
            members.set_password(options["name"], password)
        except GridError as error:
            raise CommandError(str(error)) from None
        if options["generate"]:
            self.stdout.write(password)
