"""Tokens, and for operators the server's look at itself."""

from __future__ import annotations

from django.http import HttpResponse
from django.utils import timezone
from ninja import Router
from pydantic import TypeAdapter

from grid.core.people import tokens
from grid.core.people.tokens import Scope
from grid.core.upkeep import doctor
from tasks.accounts import NewToken, TokenBody
from tasks.views import DoctorView, TokenView
from webapp.api.about import server_version
from webapp.api.answers import answer, answer_list
from webapp.auth import Allow, Request

router = Router(tags=["operating"])

_TOKENS = TypeAdapter(list[TokenView])


@router.get("/tokens", auth=Allow(Scope.READ), response=list[TokenView])
def listed(request: Request) -> HttpResponse:
    """Your tokens, or everybody's for staff; their texts are kept nowhere."""
    return answer_list(_TOKENS, [tokens.view(token) for token in tokens.visible(request.auth.user)])


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
