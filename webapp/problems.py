"""From an error to the answer that tells it (RFC 9457): the one mapping for the whole API."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from grid.core.outcomes import MissingBlobs
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
from webapp.auth import NotKnown, TooOften

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

# From the special to the general: the first that fits an error decides.
_STATUS: tuple[tuple[type[GridError], int, str], ...] = (
    (NotKnown, 401, "Who are you?"),
    (TooOften, 429, "Too many failures"),
    (NotAllowed, 403, "Not allowed"),
    (NotFound, 404, "Not found"),
    (Stale, 409, "Stale"),
    (Changed, 412, "Changed meanwhile"),
    (Conflict, 409, "Conflict"),
    (TooLarge, 413, "Too large"),
    (Refused, 400, "Refused"),
    (SpecError, 422, "The request has faults"),
    (Unavailable, 503, "Try again later"),
    (GridError, 500, "The grid has a fault"),
)
_TITLES = {400: "Bad request", 404: "Not found", 405: "Method not allowed", 413: "Too large"}


def problem(status: int, title: str, detail: str, **more: object) -> HttpResponse:
    """An answer that says no, as ``application/problem+json``."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return HttpResponse(json.dumps(body), status=status, content_type=CONTENT_TYPE)


def problem_of(error: GridError) -> HttpResponse:
    """The answer for an error of ours."""
    status, title = next((status, title) for kind, status, title in _STATUS if isinstance(error, kind))
    more: dict[str, object] = {}
    if isinstance(error, SpecError):
        more["faults"] = [asdict(fault) for fault in error.faults]
    if isinstance(error, MissingBlobs):
        more["missing"] = error.missing
    response = problem(status, title, str(error), **more)
    if isinstance(error, NotKnown):
        response.headers["WWW-Authenticate"] = 'Bearer realm="grid"'
    if isinstance(error, Unavailable | TooOften):
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    return response


def faults_of(errors: Iterable[dict[str, Any]]) -> list[Fault]:
    """ninja's complaints about parameters and bodies as faults; paths begin inside the body or name the parameter."""
    found = []
    for error in errors:
        place, *steps = error["loc"]
        path = [str(step) for step in (steps[1:] if place == "body" else steps)]
        found.append(Fault(".".join(path), error["msg"][:1].lower() + error["msg"][1:]))
    return found


def install(api: NinjaAPI) -> None:
    """Give every error that can leave a view of ``api`` its answer."""

    @api.exception_handler(GridError)
    def of_grid(request: HttpRequest, error: GridError) -> HttpResponse:
        return problem_of(error)

    @api.exception_handler(ValidationError)
    def of_input(request: HttpRequest, error: ValidationError) -> HttpResponse:
        return problem_of(SpecError(faults_of(error.errors)))

    @api.exception_handler(HttpError)
    def of_http(request: HttpRequest, error: HttpError) -> HttpResponse:
        return problem(error.status_code, _TITLES.get(error.status_code, "Refused"), str(error))

    @api.exception_handler(Http404)
    def of_nothing(request: HttpRequest, error: Http404) -> HttpResponse:
        return problem_of(NotFound("there is nothing at this address"))

    @api.exception_handler(RequestDataTooBig)
    def of_body(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
        return problem_of(TooLarge("the body is too large; upload larger contents as blobs"))

    @api.exception_handler(Exception)
    def of_anything(request: HttpRequest, error: Exception) -> HttpResponse:
        return _unexpected(request, error)


def problem_for(request: HttpRequest, error: Exception) -> HttpResponse:
    """The answer for any error that can leave a view; what nobody expected is logged."""
    if isinstance(error, RequestDataTooBig):
        return problem_of(TooLarge("the body is too large; upload larger contents as blobs"))
    return problem_of(error) if isinstance(error, GridError) else _unexpected(request, error)


def _unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("the database did not answer: %s", error, extra={"action": "refuse", "path": request.path})
        return problem_of(Unavailable("the database is busy or away; try again"))
    if isinstance(error, DataError):
        # Too long, out of range, or text with a zero byte: what one database takes another one may not.
        logger.warning("%s %s: %s", request.method, request.path, error, extra={"action": "refuse"})
        return problem_of(
            SpecError([Fault("", "a value in the request cannot be stored", "make it shorter or plainer")])
        )
    logger.error("%s %s failed", request.method, request.path, exc_info=error, extra={"action": "fail"})
    return problem(500, "The grid has a fault", "the server has a fault; its log tells more")


def always_problems(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: under /api/ also the refusals that Django makes before any view (404, 405, 400) are problems."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        plain = response.status_code >= 400 and response.headers.get("Content-Type") != CONTENT_TYPE
        if not plain or not request.path_info.startswith("/api/"):
            return response
        title = _TITLES.get(response.status_code, "Refused")
        told = problem(response.status_code, title, f"{request.method} {request.path}: {title.lower()}")
        if "Allow" in response.headers:
            told.headers["Allow"] = response.headers["Allow"]
        return told

    return answer
