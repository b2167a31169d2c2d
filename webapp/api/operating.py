"""Tokens, and for operators the server's look at itself."""

from __future__ import annotations

from django.http import HttpResponse
from django.utils import timezone
from ninja import Query, Router
from pydantic import Field

from grid.core.people import tokens
from grid.core.people.tokens import Scope
from grid.core.upkeep import doctor
from tasks.accounts import NewToken, TokenBody, TokenPage
from tasks.model import Record
from tasks.views import DoctorView
from webapp.api.about import server_version
from webapp.api.answers import answer
from webapp.auth import Allow, Request

router = Router(tags=["operating"])


class TokenPlace(Record):
    """Whose tokens, and where the list goes on."""

    owner: str = Field(default="", max_length=150)
    after: str = Field(default="", pattern=r"^[0-9]{0,18}$", description="the next of the page before")
    limit: int = Field(default=100, ge=1, le=500)


@router.get("/tokens", auth=Allow(Scope.READ), response=TokenPage)
def listed(request: Request, place: Query[TokenPlace]) -> HttpResponse:
    """A page of your tokens, or of everybody's for staff, the newest first; their texts are kept nowhere."""
    return answer(tokens.page(request.auth.user, owner=place.owner, after=place.after, limit=place.limit))


@router.post("/tokens", auth=Allow(Scope.SUBMIT), response={201: NewToken})
def make(request: Request, body: TokenBody) -> HttpResponse:
    """Make a token of yours; its text is in the answer, and nowhere else.

    It opens no more, and lives no longer, than the one that it is made with.
    """
    caller, now = request.auth, timezone.now()
    made = tokens.issue(caller.user, body, now, most=caller.scopes, until=caller.until)
    response = answer(made, 201)
    response.headers["Cache-Control"] = "no-store"
    return response


@router.delete("/tokens/{token_id}", auth=Allow(Scope.SUBMIT), response={204: None})
def revoke(request: Request, token_id: int) -> HttpResponse:
    """Make a token worthless, at once here and within seconds on other servers."""
    tokens.revoke(request.auth.user, token_id)
    return HttpResponse(status=204)


@router.get("/doctor", auth=Allow(Scope.ADMIN), response=DoctorView)
def examine(request: Request) -> HttpResponse:
    """Database, dispatcher, deadlines, nodes, broker, disk: what is wrong, and what to do about it."""
    now = timezone.now()
    return answer(DoctorView(at=now, version=server_version(), findings=doctor.examine(now)))
