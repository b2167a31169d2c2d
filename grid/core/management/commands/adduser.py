"""``adduser``: make an account."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from grid.core.management.passwords import add_password_options, password_from
from grid.core.people import members
from grid.core.people.groups import CLIENTS
from tasks.errors import GridError


class Command(BaseCommand):
    """Make an account."""

    help = f"Make an account, a member of {CLIENTS} unless groups are named. The password is asked for."

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose, and what they may."""
        parser.add_argument("name")
        parser.add_argument("--email", default="")
        parser.add_argument("--group", action="append", help=f"a group; may be repeated (default: {CLIENTS})")
        parser.add_argument("--staff", action="store_true", help="an operator, who may do everything")
        add_password_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it, and print the password if it was made here."""
        password = password_from(options)
        groups = options["group"] or [CLIENTS]
        try:
            members.add(options["name"], password, email=options["email"], groups=groups, staff=options["staff"])
        except GridError as error:
            raise CommandError(str(error)) from None
        if options["generate"]:
            self.stdout.write(password)
