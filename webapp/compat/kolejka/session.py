"""Log-in as kolejka's programs do it: name and password, then a cookie ``sessionid``. The password may be a token.

This cookie opens nothing outside of the prefix, and the cookie of the pages opens nothing inside of it: a program's
session is no person's. It is a signed statement and no row, for each call of kolejka's client logs in anew. It ends
when the password is changed, the account closed or the token revoked, after a day without use, and two weeks after the
log-in. Writes need the CSRF token as everywhere; the client has it from its first question, so no exception is made.
"""

from __future__ import annotations

import hmac
import time
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core import signing
from django.http import HttpRequest, HttpResponseBase

from grid.core import secretbox
from grid.core.people import throttle
from grid.core.people.tokens import Scope
from tasks.errors import NotAllowed
from webapp.auth import Caller, NotKnown, TooOften, of_token
from webapp.refusals import refusal_of

COOKIE = "sessionid"
PREFIX = "/kolejka/"
IDLE_SECONDS = 24 * 3600
_RENEW_SECONDS = 3600
_SALT = "webapp.compat.kolejka"
_TOKEN = "grid_"  # noqa: S105 - what all tokens begin with
_OF_PEOPLE = frozenset({Scope.READ, Scope.SUBMIT})


def log_in(request: HttpRequest, name: str, password: str, now: datetime) -> dict[str, Any] | None:
    """What the cookie is to say of somebody who gave the right password, or a token of theirs; None for a wrong one.

    Raises TooOften while there is a pause after too many wrong ones.
    """
    address = str(request.META.get("REMOTE_ADDR") or "")
    if password.startswith(_TOKEN):
        caller = _of_token(password, address)
        if caller is not None and caller.user.get_username() == name:
            return {"token": secretbox.seal(password).decode(), "since": int(time.time())}
    until = throttle.login_pause(name, address, now)
    if until is not None:
        raise TooOften((until - now).total_seconds())
    user = authenticate(request, username=name, password=password)
    if not isinstance(user, User):
        refusal = refusal_of(request)
        if refusal is None or refusal.counts:
            throttle.login_failed(name, address, now)
        return None
    throttle.login_succeeded(name, address)
    return {"user": user.pk, "proof": user.get_session_auth_hash(), "since": int(time.time())}


def caller_of(request: HttpRequest) -> Caller:
    """Who asks; raises NotKnown."""
    said = _statement(request)
    if said is None:
        raise NotKnown("log in first")
    if "token" in said:
        caller = _of_token(secretbox.unseal(str(said["token"]).encode()), str(request.META.get("REMOTE_ADDR") or ""))
        if caller is None:
            raise NotKnown("the token of this session opens nothing any more; log in again")
        return caller
    user = User.objects.filter(pk=int(said.get("user", 0)), is_active=True).first()
    if user is None or not hmac.compare_digest(user.get_session_auth_hash(), str(said.get("proof"))):
        raise NotKnown("the account of this session was closed, or its password changed; log in again")
    return Caller(user, _OF_PEOPLE | ({Scope.ADMIN} if user.is_staff else frozenset()))


def _of_token(clear: str, address: str) -> Caller | None:
    """The caller of a person's token; None for one that opens nothing, and for a node's."""
    try:
        caller = of_token(clear, address)
    except NotAllowed:
        return None
    return caller if caller.node is None else None


def _statement(request: HttpRequest) -> dict[str, Any] | None:
    """What the cookie says, if it was signed here and is not too old."""
    try:
        said = signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=IDLE_SECONDS)
    except signing.BadSignature:
        return None
    fresh = isinstance(said, dict) and time.time() - said.get("since", 0) < settings.SESSION_COOKIE_AGE
    return said if fresh else None


def remember(response: HttpResponseBase, said: dict[str, Any]) -> None:
    """Give the cookie to the client."""
    response.set_cookie(
        COOKIE,
        signing.dumps({**said, "seen": int(time.time())}, salt=_SALT),
        max_age=IDLE_SECONDS,
        path=PREFIX,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )


def renew(request: HttpRequest, response: HttpResponseBase) -> None:
    """Give a client that has used its cookie for an hour a new one, so that one that goes on asking stays."""
    said = _statement(request)
    if said is not None and time.time() - said.get("seen", 0) > _RENEW_SECONDS:
        remember(response, said)


def forget(response: HttpResponseBase) -> None:
    """Take the cookie away."""
    response.delete_cookie(COOKIE, path=PREFIX, samesite="Strict")
