"""Programs of kolejka's in tests: clients and foremen that speak its protocol, with CSRF checks as in earnest."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client

from grid.core.people import access
from grid.core.people.tokens import Scope
from tests.django import builders as given
from tests.django import doors

TASK: dict[str, Any] = {
    "image": "busybox",
    "args": ["uname"],
    "limits": {"memory": "64M", "cpus": "1", "pids": "16", "time": "1s"},
    "stdout": "stdout.txt",
}


class Program:
    """One of kolejka's programs, logged in with a token or with ``password``; ``status`` is of the last answer."""

    def __init__(self, user: User | None = None, password: str = "", *scopes: Scope) -> None:
        self._client = Client(enforce_csrf_checks=True)
        self.status = 0
        self.headers: Any = {}
        self.ask("GET", "logout/")
        if user is not None:
            word = password or doors.a_token(user, *(scopes or (Scope.READ, Scope.SUBMIT)))
            self.login = self.ask("POST", "login/", form={"username": user.username, "password": word})

    @property
    def cookies(self) -> Any:
        """What the server has given it."""
        return self._client.cookies

    def ask(
        self, method: str, path: str, body: object = b"", *, form: dict[str, str] | None = None, csrf: bool = True
    ) -> Any:
        """The answer: JSON as a value, anything else as bytes."""
        token = self._client.cookies.get("csrftoken")
        headers = {"X-CSRFToken": token.value} if csrf and token is not None else {}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if form is None:
            answer = self._client.generic(method, f"/kolejka/{path}", content, content_type="", headers=headers)
        else:
            answer = self._client.post(f"/kolejka/{path}", form, headers=headers)
        self.status, self.headers = answer.status_code, answer.headers
        found = b"".join(answer.streaming_content) if answer.streaming else answer.content  # type: ignore[attr-defined]
        return json.loads(found) if answer.headers.get("Content-Type") == "application/json" else found

    def put(self, content: bytes) -> str:
        """Store a content; the key of the reference to it."""
        return str(self.ask("POST", "blob/reference/", content)["reference"]["key"])

    def submit(self, **changes: Any) -> str:
        """Submit a task that runs ``uname``; its id."""
        return str(self.ask("POST", "task/task/", {**TASK, **changes})["task"]["id"])

    def dequeue(self, number: int = 4, tags: tuple[str, ...] = (), **limits: object) -> list[dict[str, Any]]:
        """What a foreman is given."""
        wish = {"concurency": number, "limits": limits, "tags": ["hostname:old", *tags]}
        return list(self.ask("POST", "queue/dequeue/", wish)["tasks"])

    def report(self, task: str, code: int = 0, **more: Any) -> Any:
        """The answer to a foreman's result."""
        return self.ask("POST", "task/result/", {"id": task, "result": code, "tags": ["hostname:old"], **more})


def a_client(name: str = "ada") -> Program:
    """A logged-in client."""
    return Program(given.a_user(name))


def a_foreman(name: str = "foreman") -> Program:
    """A logged-in foreman, whose account is one of the Processors."""
    user = given.a_user(name)
    user.groups.add(Group.objects.get(name="Processors"))
    access.forget()
    return Program(user)
