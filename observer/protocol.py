"""The protocol of the observer: HTTP with JSON over a local socket, one request for each connection.

It is the one that kolejka's observer speaks, whose code is its only specification: the answer is HTTP/1.0 whatever the
request is, the path is compared without case and with or without a slash, and the type of a body that has one must be
``application/json; charset=utf-8`` to the letter. Bodies of errors are plain text and never JSON, because
kolejka's client takes whatever JSON it gets for success.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from observer.errors import BadRequest, ObserverError

DEFAULT_SOCKET = Path("/var/run/grid/observer/socket")
KOLEJKA_SOCKET = Path("/var/run/kolejka/observer/socket")
LONGEST_HEAD = 8192
LONGEST_BODY = 65536
CONTENT_TYPE = "application/json; charset=utf-8"
OPERATIONS = frozenset({"", "open", "attach", "limits", "stats", "freeze", "thaw", "kill", "detach", "close"})
WITH_SESSION = OPERATIONS - {"", "open", "attach"}
_SERVER = "observer"
_SESSION_ID = re.compile(r"[0-9a-f]{32}")
_HEX = re.compile(r"[0-9a-f]{1,128}")
_LENGTH = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and headers of a request: ``length`` is of the body, ``typed`` says that it has the right type."""

    method: str
    operation: str
    length: int = 0
    typed: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: ``session_id`` and ``secret`` are empty where the caller gave none."""

    operation: str
    session_id: str = ""
    secret: str = ""
    limits: Mapping[str, object] = field(default_factory=dict)


def parse_head(head: bytes) -> Head:
    """The request's head, without or with the empty line that ends it. Raises BadRequest."""
    if len(head) > LONGEST_HEAD:
        raise BadRequest("the head of the request is too long")
    first, *lines = head.decode("latin-1").split("\n")
    words = first.split()
    if len(words) not in (2, 3) or (len(words) == 3 and not words[2].startswith("HTTP/")):
        raise BadRequest("not a request of HTTP")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.strip("\r").partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    if "transfer-encoding" in headers:
        raise BadRequest("a body needs a Content-Length")
    length, kind = headers.get("content-length"), headers.get("content-type")
    if length is not None and (not _LENGTH.fullmatch(length) or int(length) > LONGEST_BODY):
        raise BadRequest(f"Content-Length: a number up to {LONGEST_BODY}")
    if length is not None and kind not in (None, CONTENT_TYPE):
        raise BadRequest(f"Content-Type: {CONTENT_TYPE}")
    return Head(words[0], _operation(words[1]), int(length or 0), typed=kind is not None)


def parse_body(head: Head, body: bytes) -> Request:
    """The request of a POST. Raises BadRequest. A body without a type is not looked at, as kolejka has it."""
    given: object = {}
    if head.typed and head.length:
        try:
            given = json.loads(body.decode())
        except (ValueError, RecursionError) as error:
            raise BadRequest("the body is not JSON") from error
    if not isinstance(given, dict):
        raise BadRequest("the body is not a JSON object")
    session_id, secret = (_text(given, name) for name in ("session_id", "secret"))
    if head.operation == "stats" and not session_id:
        raise BadRequest("session_id: missing")
    if session_id and not _SESSION_ID.fullmatch(session_id):
        raise BadRequest("session_id: 32 hexadecimal digits")
    if secret and not _HEX.fullmatch(secret):
        raise BadRequest("secret: hexadecimal digits")
    return Request(head.operation, session_id, secret, given.get("limits") or {})


def answer(payload: Mapping[str, object]) -> bytes:
    """Success, with JSON."""
    return _render(200, CONTENT_TYPE, json.dumps(payload).encode())


def empty_answer() -> bytes:
    """What GET and HEAD get."""
    return _render(200, "", b"")


def error_answer(error: ObserverError) -> bytes:
    """A failure; its body is a sentence that begins with "error:"."""
    return _render(error.status, "text/plain; charset=utf-8", f"error: {error}\n".encode())


def _render(status: int, kind: str, body: bytes) -> bytes:
    lines = [f"HTTP/1.0 {status} {HTTPStatus(status).phrase}", f"Server: {_SERVER}"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def _operation(target: str) -> str:
    path = target.partition("?")[0].partition("#")[0]
    return path.strip("/ ").lower()


def _text(given: Mapping[str, object], name: str) -> str:
    value = given.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"{name}: not a string")
    return value
