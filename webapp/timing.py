"""How long requests take, kept in this process for ``/metrics``; each server is asked for its own."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from prometheus_client import Histogram

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

requests_seconds = Histogram(
    "grid_http_request_seconds",
    "Time until the head of the answer, by route; without long polls and streams of events.",
    labelnames=("method", "route", "status"),
    buckets=BUCKETS_SECONDS,
    registry=None,
)
# What others may make up must not become labels without end.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Answer = Callable[[HttpRequest], HttpResponseBase]


def timed(get_response: Answer) -> Answer:
    """Middleware that measures. The route is the pattern of the address, so that there are as many as in the code."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        begun = time.perf_counter()
        response = get_response(request)
        found = request.resolver_match
        requests_seconds.labels(
            method=request.method if request.method in _METHODS else "other",
            route=found.route if found else "none",
            status=f"{response.status_code // 100}xx",
        ).observe(time.perf_counter() - begun)
        return response

    return answer
