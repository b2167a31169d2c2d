"""What every answer tells the browser: nothing from elsewhere, nothing inline, nothing in a frame."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
)
"""The Content-Security-Policy of all answers that do not set a stricter one."""

_AnyResponse = TypeVar("_AnyResponse", bound=HttpResponseBase)
_Answer = Callable[[HttpRequest], HttpResponseBase]
_AsyncAnswer = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


def set_policy(response: HttpResponseBase) -> HttpResponseBase:
    """Add the headers that are not there yet."""
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    if isinstance(response, HttpResponse):
        # Live answers do not pass Django's middleware for this; a chunked answer costs one more packet.
        response.headers.setdefault("Content-Length", str(len(response.content)))
    return response


def inert(response: _AnyResponse, caching: str) -> _AnyResponse:
    """The answer with what keeps browsers from running anything in it: it holds bytes that a task has written."""
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = caching
    return response


@sync_and_async_middleware
def browser_policy(get_response: _Answer | _AsyncAnswer) -> _Answer | _AsyncAnswer:
    """Middleware that sets the policy on every answer."""
    if iscoroutinefunction(get_response):
        answer_later = cast(_AsyncAnswer, get_response)

        async def live(request: HttpRequest) -> HttpResponseBase:
            return set_policy(await answer_later(request))

        return live
    answer_now = cast(_Answer, get_response)

    def plain(request: HttpRequest) -> HttpResponseBase:
        return set_policy(answer_now(request))

    return plain
