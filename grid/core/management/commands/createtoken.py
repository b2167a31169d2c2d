"""``createtoken``: make a token for a person or a node and print it once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from grid.core.fleet import enlist
from grid.core.people.tokens import Scope, create
from tasks.errors import SpecError


class Command(BaseCommand):
    """Make a token."""

    help = (
        "Make a token for a user (--scope read --scope submit by default) or, with --node NAME, for a node; print it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose token, and what it opens."""
        parser.add_argument("user")
        parser.add_argument("--name", default="command line")
        parser.add_argument("--scope", action="append", choices=[scope.value for scope in Scope])
        parser.add_argument("--node", help="make a node's token; the node is made if it is not there")
        parser.add_argument("--days", type=float, help="days until it expires; without it never")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the clear text of the token."""
        now = timezone.now()
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"there is no user {options['user']}; make one with: manage.py createsuperuser")
        node = None
        scopes = [Scope(scope) for scope in options["scope"] or ("read", "submit")]
        if options["node"]:
            try:
                node = enlist(options["node"], now)
            except SpecError as error:
                raise CommandError(str(error)) from None
            scopes = [Scope.NODE]
        expires_at = now + timedelta(days=options["days"]) if options["days"] else None
        _, clear = create(owner=user, name=options["name"], scopes=scopes, now=now, node=node, expires_at=expires_at)
        self.stdout.write(clear)
