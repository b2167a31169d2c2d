"""What all routes share: who may pass, and how errors are told in kolejka's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.common import no_append_slash

from grid.core.kolejka.clients import Declined
from grid.core.people.tokens import Scope
from tasks.errors import NotAllowed
from tasks.jsontext import parse_json
from webapp.auth import Caller, Request
from webapp.compat.kolejka import session
from webapp.problems import problem_for

View = Callable[..., HttpResponseBase]
_STATUS = {401: 403, 422: 400}
"""Where kolejka's codes are others than those of our API."""


def ok(**content: object) -> JsonResponse:
    """What is answered to a request that was carried out."""
    return JsonResponse({**content, "status": "OK"})


def fail(message: str = "", status: int = 200) -> JsonResponse:
    """What is answered to one that was not; kolejka says so with status 200 where it is no fault of form."""
    return JsonResponse({"status": "FAIL", **({"message": message} if message else {})}, status=status)


def body_json(request: HttpRequest) -> dict[str, object]:
    """The body as a JSON object; raises SpecError."""
    return parse_json(request.body)


def only(*methods: str) -> Callable[[View], View]:
    """A view for these methods and for callers who are logged in, whose errors are told in kolejka's words."""

    def decorate(view: View) -> View:
        @no_append_slash
        @wraps(view)
        def answer(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.method not in methods:
                return _not_allowed(methods)
            try:
                request.auth = _caller(request)
                if (request.content_type or "").startswith("multipart/"):
                    return fail("send the body as it is, not as a form", 400)
                response = view(request, *args, **kwargs)
                session.renew(request, response)
            except Exception as error:  # noqa: BLE001 - the outermost frame of these routes: each error has its answer
                return told(request, error)
            return response

        return answer

    return decorate


def _caller(request: HttpRequest) -> Caller:
    """Who asks; raises NotKnown, and NotAllowed for a session whose token does not open that."""
    caller = session.caller_of(request)
    scope = Scope.READ if request.method in ("GET", "HEAD") else Scope.SUBMIT
    if scope not in caller.scopes:
        raise NotAllowed(f'this needs a token with the scope "{scope}"')
    return caller


def told(request: HttpRequest, error: Exception) -> HttpResponse:
    """The answer for an error."""
    if isinstance(error, Declined):
        return fail(str(error))
    found = problem_for(request, error)
    message = str(error) if found.status_code < 500 else "the server has a fault, or is busy; try again later"
    response = fail(message, _STATUS.get(found.status_code, found.status_code))
    if "Retry-After" in found.headers:
        response.headers["Retry-After"] = found.headers["Retry-After"]
    return response


def _not_allowed(methods: Iterable[str]) -> HttpResponse:
    response = fail("this address does not know that method", 405)
    response.headers["Allow"] = ", ".join(methods)
    return response
