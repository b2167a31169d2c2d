"""Who asks, and what they may do: bearer tokens with scopes, or the session of the pages.

A token without the scope ``admin`` carries none of the rights of staff, whoever owns it, and a node's token opens only
the node's side of the API.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import cast

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.utils import timezone
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from grid.core.models import Node
from grid.core.people import throttle, tokens
from grid.core.people.tokens import Scope
from tasks.errors import NotAllowed
from webapp.live import in_thread

_OF_ADMINS = frozenset({Scope.READ, Scope.SUBMIT, Scope.ADMIN})
_OF_PEOPLE = frozenset({Scope.READ, Scope.SUBMIT})


class NotKnown(NotAllowed):
    """The request does not say who asks, or not convincingly (401, where NotAllowed is 403)."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: ``node`` is set for the agent of a node, whose token (of the hash ``key``) is no person's.

    ``until`` is when a person's token expires, where it does.
    """

    user: User
    scopes: frozenset[Scope]
    node: Node | None = None
    key: str = ""
    until: datetime | None = None


class Request(HttpRequest):
    """A request of the API; ``auth`` is set by the door it came through."""

    auth: Caller


class TooOften(NotAllowed):
    """So many unknown tokens came from one address that further ones are told to wait (429)."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("too many unknown tokens came from this address; a good one still passes")
        self.retry_after_seconds = retry_after_seconds


def of_token(clear: str, address: str) -> Caller:
    """The caller that a token stands for; raises NotKnown, and TooOften where many came from ``address``."""
    now = timezone.now()
    try:
        token = tokens.authenticate(clear, now)
    except NotAllowed as error:
        until = throttle.token_failed(address, now)
        if until is not None:
            raise TooOften((until - now).total_seconds()) from None
        raise NotKnown(str(error)) from None
    scopes = frozenset(Scope(word) for word in token.scopes)
    if token.node is not None:
        return Caller(token.owner, scopes & {Scope.NODE}, token.node, token.hash)
    if Scope.ADMIN in scopes and token.owner.is_staff:
        return Caller(token.owner, _OF_ADMINS, until=token.expires_at)
    # A copy, for this request only: neither the row nor the token that is remembered changes.
    person = copy.copy(token.owner)
    person.is_staff = person.is_superuser = False
    return Caller(person, scopes & _OF_PEOPLE, until=token.expires_at)


def of_session(request: HttpRequest) -> Caller:
    """The caller that the cookie of the pages stands for; raises NotKnown, also when a write lacks its CSRF token."""
    if not hasattr(request, "session"):
        request.session = _session(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    user = get_user(request)
    if isinstance(user, AnonymousUser):
        raise NotKnown("say who you are: send a token (Authorization: Bearer ...) or log in")
    if check_csrf(request) is not None:
        raise NotAllowed("a write with the cookie of the pages needs their CSRF token (X-CSRFToken)")
    return Caller(user, _OF_ADMINS if user.is_staff else _OF_PEOPLE)


def caller_of(request: HttpRequest) -> Caller:
    """Who asks; a token goes before a session. Raises NotKnown, TooOften."""
    kind, _, clear = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return of_token(clear.strip(), str(request.META.get("REMOTE_ADDR") or ""))
    return of_session(request)


class Allow(AuthBase):
    """The door of an operation: callers with ``scope`` may pass."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def __call__(self, request: HttpRequest) -> Caller:
        """The caller; raises NotKnown (401) or NotAllowed (403)."""
        return self.checked(caller_of(request))

    def checked(self, caller: Caller) -> Caller:
        """The same caller; raises NotAllowed when the scope is not among the caller's."""
        if self.scope not in caller.scopes:
            raise NotAllowed(f'this needs a token with the scope "{self.scope}"')
        return caller


class AllowLive(Allow):
    """The same door for operations that wait in the event loop."""

    async def __call__(self, request: HttpRequest) -> Caller:  # type: ignore[override]
        """The caller; raises NotKnown (401) or NotAllowed (403)."""
        return self.checked(await in_thread(caller_of, request))


def _session(key: str | None) -> SessionBase:
    engine = import_module(settings.SESSION_ENGINE)
    return cast(SessionBase, engine.SessionStore(key))
