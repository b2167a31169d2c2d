"""From an answer of the server that says no to the error for it in Python: the one mapping, for users and nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tasks.errors import (
    Changed,
    Conflict,
    Fault,
    GridError,
    NotAllowed,
    NotFound,
    Refused,
    SpecError,
    Stale,
    TooLarge,
    Unavailable,
)

_BY_STATUS: dict[int, type[GridError]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    412: Changed,
    413: TooLarge,
}
_RETRY_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHOWN = 300


def error_from_response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> GridError:
    """The error that an answer with ``status`` (>= 400) stands for; its text is the problem's own sentence.

    ``body`` may be anything, for a proxy answers with pages of its own. ``headers`` are asked for ``Retry-After``.
    """
    problem = _problem(body)
    text = _sentence(problem, status, body)
    if status == 422:
        return SpecError(_faults(problem) or (Fault("", text),))
    if status in _RETRY_LATER:
        return Unavailable(text, _retry_after_seconds(headers or {}))
    if status == 409 and "stale" in f"{problem.get('type')} {problem.get('title')}".lower():
        return Stale(text)
    return _BY_STATUS.get(status, Refused)(text)


def unreachable(server: str, cause: Exception) -> Unavailable:
    """The error for a server that does not answer at all."""
    why = str(cause) or type(cause).__name__
    return Unavailable(f"no grid answers at {server} ({why}); start one with `grid up`")


def missing_blobs(body: bytes) -> tuple[str, ...]:
    """The sha256 of the blobs that a problem lists as ``missing``; empty when it is about something else."""
    listed = _problem(body).get("missing")
    return tuple(str(one) for one in listed) if isinstance(listed, list) else ()


def _problem(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _sentence(problem: Mapping[str, object], status: int, body: bytes) -> str:
    detail = problem.get("detail") or problem.get("title")
    if isinstance(detail, str):
        return detail
    shown = body[:_SHOWN].decode(errors="replace").strip()
    return f"the server answered {status}: {shown}" if shown else f"the server answered {status}"


def _faults(problem: Mapping[str, object]) -> tuple[Fault, ...]:
    listed = problem.get("faults")
    if not isinstance(listed, list):
        return ()
    return tuple(
        Fault(str(one.get("path", "")), str(one.get("message", "")), str(one.get("hint", "")))
        for one in listed
        if isinstance(one, dict)
    )


def _retry_after_seconds(headers: Mapping[str, str]) -> float:
    found = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    return float(found) if found.isascii() and found.isdigit() else 1.0
