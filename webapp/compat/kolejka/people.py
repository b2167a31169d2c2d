"""Who asks, and what holds for them: index, log-in, log-out, settings."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.common import no_append_slash
from django.views.decorators.csrf import ensure_csrf_cookie

from grid.core.kolejka import clients
from webapp.auth import Request, TooOften
from webapp.compat.kolejka import session
from webapp.compat.kolejka.door import fail, ok, only, told


@no_append_slash
@ensure_csrf_cookie
def index(request: HttpRequest) -> HttpResponse:
    """Something to see that the address is right."""
    return HttpResponse("INDEX", content_type="text/plain; charset=utf-8")


@no_append_slash
@never_cache
@ensure_csrf_cookie
def login(request: HttpRequest) -> HttpResponse:
    """The log-in; a wrong password is answered with status FAIL, too many of them with 429."""
    if request.method == "GET":
        return ok()
    if request.method != "POST":
        return fail("this address does not know that method", 405)
    name, password = request.POST.get("username", ""), request.POST.get("password", "")
    try:
        said = session.log_in(request, name, password, timezone.now())
    except TooOften as error:
        return told(request, error)
    if said is None:
        return fail("the name or the password is wrong")
    response = ok()
    session.remember(response, said)
    return response


@no_append_slash
@never_cache
@ensure_csrf_cookie
def logout(request: HttpRequest) -> HttpResponse:
    """The client forgets its session. Each of its commands begins with this, for the CSRF cookie."""
    response = ok()
    if session.COOKIE in request.COOKIES:
        session.forget(response)
    return response


@only("GET")
def settings(request: Request) -> HttpResponse:
    """What clients have to know. They set each key on their own configuration: none may be called as a limit is."""
    return ok(blob_hash_algorithm="sha256", limits=clients.limits_for(request.auth.user, timezone.now()))
