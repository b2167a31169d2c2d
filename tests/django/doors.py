"""How tests come in: with tokens, as people at the pages, and straight through the ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from grid.core.models import Node
from grid.core.people import tokens
from grid.core.people.tokens import Scope
from webapp.asgi import application

EVERY_SCOPE = (Scope.READ, Scope.SUBMIT, Scope.ADMIN)


def a_token(owner: User, *scopes: Scope, node: Node | None = None) -> str:
    """The clear text of a new token."""
    return tokens.create(owner=owner, name="test", scopes=scopes, node=node, now=timezone.now())[1]


def api_of(owner: User, *scopes: Scope) -> Client:
    """A client with a token of its owner, to read and submit unless told otherwise."""
    clear = a_token(owner, *(scopes or (Scope.READ, Scope.SUBMIT)))
    return Client(headers={"authorization": f"Bearer {clear}"})


def api_of_node(node: Node, owner: User) -> Client:
    """A client with the token of a node."""
    return Client(headers={"authorization": f"Bearer {a_token(owner, Scope.NODE, node=node)}"})


def browser_of(user: User, *, csrf: bool = False) -> Client:
    """A browser in which ``user`` has logged in; with ``csrf`` the check is not left out."""
    client = Client(enforce_csrf_checks=csrf)
    client.force_login(user)
    return client


@dataclass
class Answer:
    """What the ASGI application has sent so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Request:
    """One request to the ASGI application; the client hangs up when ``enough`` says so.

    ``begun`` is set once the head of the answer has come. A ``silent`` client promises a body and sends none.
    """

    path: str
    token: str = ""
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    enough: Callable[[Answer], bool] = lambda answer: answer.complete
    silent: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def scope(self) -> dict[str, Any]:
        """The request as an ASGI server tells it."""
        path, _, query = self.path.partition("?")
        headers = {"host": "localhost", "content-length": str(len(self.body)), **self.headers}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), text.encode()) for name, text in headers.items() if text != ""],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }

    async def send(self, seconds: float = 20.0) -> Answer:
        """The answer, or what there was of it when it was enough."""
        async with asyncio.timeout(seconds):
            return await _Exchange(self).run(self.scope())


class _Exchange:
    """The two ends of one request."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._answer = Answer()
        self._sent = request.silent
        self._over = asyncio.Event()

    async def run(self, scope: dict[str, Any]) -> Answer:
        await application(scope, self._receive, self._send)
        return self._answer

    async def _receive(self) -> dict[str, Any]:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            self._answer.status = event["status"]
            self._answer.headers = {name.decode().lower(): text.decode() for name, text in event["headers"]}
            self._request.begun.set()
            return
        self._answer.body += event.get("body", b"")
        self._answer.complete = not event.get("more_body", False)
        if self._request.enough(self._answer):
            self._over.set()
