"""Flower's window on the node workers, for staff, behind our log-in: a proxy that hands on what Flower says to read.

Flower itself listens on loopback (or in a network of its own) and asks for a password, which only the server knows.
Nothing of our cookies reaches it and nothing of its cookies comes back. It is a window and not a record: its verbs are
refused here, for nodes are drained and tasks cancelled on our pages, where it is noted who did so.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote, urlsplit

import httpx
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from grid.core.conf import conf
from webapp.views.people import only_operators

logger = logging.getLogger(__name__)

TIMES = httpx.Timeout(10.0, connect=3.0)
CONNECTIONS = httpx.Limits(max_connections=16, max_keepalive_connections=4)
BLOCK_BYTES = 64 * 1024

ASKED = ("Accept", "Accept-Language", "Content-Type", "If-None-Match", "If-Modified-Since", "X-Requested-With")
"""What Flower is told of a request; above all no cookies."""

TOLD = ("Content-Type", "Content-Encoding", "Cache-Control", "Etag", "Last-Modified", "Vary")
"""What a browser is told of Flower's answer; above all no cookies."""

# The one thing that Flower's pages read by POST, for its many arguments.
READ_BY_POST = "tasks/datatable"
# The one script that stands within a page of Flower; a text of fixed bytes is named by its hash.
_INLINE = tuple(f"\nvar autorefresh = {value};\n" for value in (0, 1))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def flower(request: HttpRequest, path: str = "") -> HttpResponseBase:
    """Hand a request for reading on to Flower."""
    only_operators(request, "only operators see Flower")
    base = conf().flower_url
    if not base or _leads_out(path):
        raise Http404("there is no Flower here")
    if request.method == "POST" and path != READ_BY_POST:
        words = {"title": "Flower only shows here", "status": 403}
        text = "Drain or cordon nodes on the page of nodes, and cancel tasks on their own pages."
        return render(request, "error.html", {**words, "text": text}, status=403)
    try:
        answer = _ask(request, base, path)
    except httpx.HTTPError as error:
        logger.warning("Flower does not answer: %s", error, extra={"action": "flower_down"})
        return _unavailable(request, "It may be starting, or it has stopped. The grid works without it.")
    if answer.status_code == 401:
        answer.close()
        return _unavailable(request, "It does not take our password; GRID_FLOWER_AUTH has to be its USER:PASSWORD.")
    return _handed_on(request, answer)


def _leads_out(path: str) -> bool:
    """Whether a path names something outside of Flower's own."""
    return any(part in (".", "..") for part in path.split("/")) or "\\" in path


def _ask(request: HttpRequest, base: str, path: str) -> httpx.Response:
    """Flower's answer, with its body still to come."""
    address = base.rstrip("/") + "/" + quote(path, safe="/@:,+~=")
    if query := request.META.get("QUERY_STRING", ""):
        address += "?" + query
    headers = {name: request.headers[name] for name in ASKED if name in request.headers}
    # Not built by the client, which would add the cookies of answers to others.
    asked = httpx.Request(
        request.method or "GET",
        address,
        headers={**headers, "Accept-Encoding": "identity"},
        content=request.body,
        extensions={"timeout": TIMES.as_dict()},
    )
    return _client(conf().flower_auth).send(asked, stream=True)


@lru_cache(maxsize=2)
def _client(auth: str) -> httpx.Client:
    """The connections to Flower; a client belongs to no thread."""
    user, _, password = auth.partition(":")
    return httpx.Client(
        auth=(user, password) if auth else None,
        limits=CONNECTIONS,
        trust_env=False,
        follow_redirects=False,
    )


def _handed_on(request: HttpRequest, answer: httpx.Response) -> HttpResponseBase:
    """Flower's answer as ours."""

    def body() -> Iterator[bytes]:
        try:
            yield from answer.iter_raw(BLOCK_BYTES)
        except httpx.HTTPError as error:
            # The head has gone out: all that is left is to end the answer early.
            logger.warning("Flower broke off: %s", error, extra={"action": "flower_down"})
        finally:
            answer.close()

    response = StreamingHttpResponse(body(), status=answer.status_code)
    # Also when nobody reads the body, as with HEAD.
    response._resource_closers.append(answer.close)  # type: ignore[attr-defined]
    del response.headers["Content-Type"]
    for name in TOLD:
        if name in answer.headers:
            response.headers[name] = answer.headers[name]
    if 300 <= answer.status_code < 400 and (place := _inside(answer.headers.get("Location", ""))):
        response.headers["Location"] = place
    response.headers["Content-Security-Policy"] = policy(request)
    return response


def _inside(location: str) -> str:
    """A redirect of Flower's, if it leads to a page of its own; else nothing."""
    path = urlsplit(location).path
    prefix = reverse("flower")
    return location if location.startswith("/") and path.startswith(prefix) and not _leads_out(path) else ""


def policy(request: HttpRequest) -> str:
    """The Content-Security-Policy of Flower's pages.

    Task names that people chose stand on them. Should Flower ever fail to escape one, no script of theirs would run,
    and scripts of Flower's reach Flower alone, not our pages.
    """
    root = request.build_absolute_uri(reverse("flower"))
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in _INLINE
    )
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {root}static/ {hashes}",
            # Its tables and menus set widths and places of what they draw.
            f"style-src {root}static/ 'unsafe-inline'",
            f"img-src {root}static/ data:",
            f"font-src {root}static/",
            f"connect-src {root}",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ]
    )


def _unavailable(request: HttpRequest, text: str) -> HttpResponse:
    context = {"title": "Flower does not answer", "text": text, "status": 502}
    return render(request, "error.html", context, status=502)
