"""``gridinit``: make what a grid on one machine needs to begin, and say the tokens once, as JSON."""

from __future__ import annotations

import json
import secrets
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.utils import timezone

from grid.core.fleet import enlist
from grid.core.models import Node, Token
from grid.core.tokens import Scope, create


class Command(BaseCommand):
    """Make an operator, a token for them, and one for each node named."""

    help = (
        "Make the operator if there is none, a token for them and one for each --node, and print them as JSON. "
        "Tokens of the same names are replaced."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Whom and what to make."""
        parser.add_argument("--user", default="admin")
        parser.add_argument("--node", action="append", default=[], help="name of a node; may be repeated")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Print ``{"user", "password" (null if the user was there), "user_token", "node_token", "node_tokens"}``."""
        now = timezone.now()
        user, password = _operator(options["user"])
        everything = (Scope.READ, Scope.SUBMIT, Scope.ADMIN)
        nodes = {name: _node_token(user, name, now) for name in options["node"]}
        answer = {
            "user": user.username,
            "password": password,
            "user_token": _replace(user, "this machine", everything, now, None),
            "node_token": next(iter(nodes.values()), None),
            "node_tokens": nodes,
        }
        self.stdout.write(json.dumps(answer))


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
