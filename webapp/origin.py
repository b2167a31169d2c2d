"""Tells the audit log who asks, and from which address."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from grid.core.people import audit

_Answer = Callable[[HttpRequest], HttpResponseBase]


def known_origin(get_response: _Answer) -> _Answer:
    """Middleware: what is noted while a request is answered was done by its sender. Live answers change nothing."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        with audit.acting(lambda: _sender(request), str(request.META.get("REMOTE_ADDR") or "")):
            return get_response(request)

    return answer


def _sender(request: HttpRequest) -> str:
    """The name of the caller of the API (a node's is its own), or of who is logged in."""
    caller = getattr(request, "auth", None)
    if caller is not None:
        return f"node {caller.node.name}" if caller.node is not None else str(caller.user.username)
    user = getattr(request, "user", None)
    return str(user.get_username()) if user is not None else ""
