"""The observer as Python programs use it; standard library only::

with Client().open() as session:
    session.limit(memory="64M", pids=16, time="2s")
    process = subprocess.Popen(command, preexec_fn=session.attach)
    process.wait()
    print(session.stats())
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import Self

from observer.errors import BY_STATUS, Failed, Unreachable
from observer.protocol import CONTENT_TYPE, DEFAULT_SOCKET, KOLEJKA_SOCKET

_TIMEOUT_SECONDS = 15.0


class Client:
    """Speaks to the observer at ``path``; by default to ours, or to kolejka's where only that one is there.

    Every method raises an :class:`observer.errors.ObserverError`.
    """

    def __init__(self, path: Path | str | None = None, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._path, self._timeout = str(path or default_socket()), timeout_seconds

    def open(self) -> Session:
        """A new session of this process; it ends when it is closed, or with this process and all processes in it."""
        made = self.request("open", {})
        return Session(self, str(made["session_id"]), str(made["secret"]))

    def attach(self) -> Session:
        """A new session with this very process in it."""
        made = self.request("attach", {})
        return Session(self, str(made["session_id"]), str(made["secret"]))

    def sessions(self) -> int:
        """How many sessions the observer has."""
        return int(str(self.request("", {})["sessions"]))

    def request(self, operation: str, given: Mapping[str, object]) -> dict[str, object]:
        """One request, over a connection of its own."""
        body = json.dumps(given).encode()
        head = f"POST /{operation} HTTP/1.0\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
        status, text = self._exchange(head.encode() + body)
        if status != 200:
            raise BY_STATUS.get(status, Failed)(text.strip().removeprefix("error: "))
        try:
            found = json.loads(text)
        except ValueError as error:
            raise Unreachable(f"what answers at {self._path} is not an observer") from error
        if not isinstance(found, dict):
            raise Unreachable(f"what answers at {self._path} is not an observer")
        return found

    def _exchange(self, request: bytes) -> tuple[int, str]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._timeout)
            try:
                connection.connect(self._path)
                connection.sendall(request)
                response = HTTPResponse(connection)
                response.begin()
                return response.status, response.read().decode(errors="replace")
            except OSError as error:
                raise Unreachable(f"{self._path}: {error.strerror or error}") from error
            except HTTPException as error:
                raise Unreachable(f"what answers at {self._path} is not an observer") from error


class Session:
    """A session and its secret; leaving a ``with`` block closes it."""

    def __init__(self, client: Client, session_id: str, secret: str) -> None:
        self.id, self.secret, self._client = session_id, secret, client

    def attach(self) -> None:
        """Move the calling process in, with all its threads; its children are born in it."""
        self._do("attach")

    def detach(self) -> None:
        """Move the calling process back."""
        self._do("detach")

    def limit(self, **limits: object) -> tuple[str, ...]:
        """Set limits (:class:`observer.limits.SessionLimits`); answers those that are not the observer's to hold.

        A limit that cannot be held raises Failed with its name. A ``time`` that is not given is lifted.
        """
        found = self._do("limits", limits=limits).get("not_enforced", [])
        return tuple(map(str, found)) if isinstance(found, list) else ()

    def stats(self) -> dict[str, object]:
        """What was used, as kolejka writes it; still for five minutes after the end, which ``ended`` tells then."""
        return self._do("stats")

    def freeze(self) -> None:
        """Stop every process in it; returns when all stand still."""
        self._do("freeze")

    def thaw(self) -> None:
        """Let them go on."""
        self._do("thaw")

    def kill(self) -> None:
        """End every process in it; the session stays."""
        self._do("kill")

    def close(self) -> None:
        """End every process in it, and the session."""
        self._do("close")

    def _do(self, operation: str, **more: object) -> dict[str, object]:
        return self._client.request(operation, {"session_id": self.id, "secret": self.secret, **more})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def default_socket() -> Path:
    """Ours if it is there, or else kolejka's if that is."""
    return KOLEJKA_SOCKET if KOLEJKA_SOCKET.exists() and not DEFAULT_SOCKET.exists() else DEFAULT_SOCKET
