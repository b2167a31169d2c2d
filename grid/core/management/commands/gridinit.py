"""``gridinit``: make what a grid on one machine needs to begin, and say the tokens once, as JSON."""

from __future__ import annotations

import json
import os
import secrets
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.utils import timezone

from grid.core.fleet import enlist
from grid.core.models import Node, Token
from grid.core.people.tokens import Scope, authenticate, create
from tasks.errors import NotAllowed

KNOWN_TOKEN = "GRIDINIT_KNOWN_TOKEN"  # noqa: S105 - the name of a variable


class Command(BaseCommand):
    """Make an operator, a token for them, and one for each node named."""

    help = (
        "Make the operator if there is none, a token for them and one for each --node, and print them as JSON. "
        f"Tokens of the same names are replaced. With a token in the variable {KNOWN_TOKEN} that the server knows, "
        "make nothing and print null."
    )
    requires_system_checks = ()
    """Pages and API are none of its business, and take longer to load than all that it does."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Whom and what to make."""
        parser.add_argument("--user", default="admin")
        parser.add_argument("--node", action="append", default=[], help="name of a node; may be repeated")
        parser.add_argument("--migrate", action="store_true", help="bring the database's tables up to date first")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print ``{"user", "password" (null if the user was there), "user_token", "node_token", "node_tokens"}``."""
        if options["migrate"]:
            call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
        now = timezone.now()
        known = _is_known(os.environ.get(KNOWN_TOKEN, ""), now)
        self.stdout.write(json.dumps(None if known else _made(options["user"], options["node"], now)))


def _is_known(token: str, now: datetime) -> bool:
    try:
        return bool(token) and authenticate(token, now) is not None
    except NotAllowed:
        return False


@transaction.atomic
def _made(name: str, nodes: list[str], now: datetime) -> dict[str, Any]:
    user, password = _operator(name)
    tokens = {node: _node_token(user, node, now) for node in nodes}
    return {
        "user": user.username,
        "password": password,
        "user_token": _replace(user, "this machine", (Scope.READ, Scope.SUBMIT, Scope.ADMIN), now, None),
        "node_token": next(iter(tokens.values()), None),
        "node_tokens": tokens,
    }


def _operator(name: str) -> tuple[User, str | None]:
    found = User.objects.filter(username=name).first()
    if found is not None:
        return found, None
    password = secrets.token_urlsafe(12)
    return User.objects.create_superuser(name, password=password), password


def _node_token(user: User, name: str, now: datetime) -> str:
    node = enlist(name, now)
    return _replace(user, f"node {name}", (Scope.NODE,), now, node)


def _replace(user: User, name: str, scopes: tuple[Scope, ...], now: datetime, node: Node | None) -> str:
    Token.objects.filter(owner=user, name=name, node=node).delete()
    return create(owner=user, name=name, scopes=scopes, node=node, now=now)[1]
