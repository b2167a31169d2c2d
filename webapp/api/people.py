"""One's own account, and for operators people, groups, and what is decided for them."""

from __future__ import annotations

from typing import Annotated

from django.contrib.auth.models import Group
from django.http import HttpResponse
from django.utils import timezone
from ninja import Path, Query, Router
from pydantic import Field, TypeAdapter

from grid.core.conf import conf
from grid.core.people import accounts
from grid.core.people.tokens import Scope
from tasks.accounts import (
    AccountView,
    GroupBody,
    GroupChange,
    GroupDetail,
    GroupView,
    NewPerson,
    NewPersonBody,
    PeoplePage,
    PersonChange,
    PersonDetail,
    ServerRules,
)
from tasks.model import Record
from webapp.api.answers import answer, answer_list, answer_state
from webapp.auth import Allow, Request

Named = Annotated[str, Path(max_length=150)]

router = Router(tags=["people"])

_GROUPS = TypeAdapter(list[GroupView])


class ShareBody(Record):
    """Whether the members of one's groups see one's tasks."""

    share: bool


class PeoplePlace(Record):
    """Where the list goes on."""

    after: str = Field(default="", max_length=150, description="the next of the page before")
    limit: int = Field(default=accounts.PAGE, ge=1, le=500)


@router.get("/account", auth=Allow(Scope.READ), response=AccountView)
def account(request: Request) -> HttpResponse:
    """Your account: your groups, whether they see your tasks, and what is used of the quotas that hold for you."""
    return answer(accounts.own(request.auth.user, timezone.now()))


@router.put("/account/sharing", auth=Allow(Scope.SUBMIT), response=AccountView)
def share(request: Request, body: ShareBody) -> HttpResponse:
    """Let your groups see your tasks, or not any more."""
    now = timezone.now()
    accounts.share(request.auth.user, now, wish=body.share)
    return answer(accounts.own(request.auth.user, now))


@router.get("/rules", auth=Allow(Scope.ADMIN), response=ServerRules)
def rules(request: Request) -> HttpResponse:
    """Quotas, limits, images and retention that hold for everybody for whom nothing else was decided."""
    return answer(accounts.server_rules(conf()))


@router.get("/users", auth=Allow(Scope.ADMIN), response=PeoplePage)
def users(request: Request, place: Query[PeoplePlace]) -> HttpResponse:
    """A page of the users, by name."""
    return answer(accounts.page(place.after, place.limit, timezone.now()))


@router.post("/users", auth=Allow(Scope.ADMIN), response={201: NewPerson})
def add_user(request: Request, body: NewPersonBody) -> HttpResponse:
    """Make an account. A password that is made up is in the answer, and nowhere else; 409 when the name is taken."""
    return answer(accounts.add_person(body), 201)


@router.get("/users/{path:name}", auth=Allow(Scope.ADMIN), response={200: PersonDetail, 304: None})
def user(request: Request, name: Named) -> HttpResponse:
    """One user, with what is decided for them; with an ETag."""
    return answer_state(request, accounts.person(name, timezone.now()))


@router.patch("/users/{path:name}", auth=Allow(Scope.ADMIN), response=PersonDetail)
def change_user(request: Request, name: Named, body: PersonChange) -> HttpResponse:
    """Change the groups, close the account or open it, decide quotas, limits, images and retention: all or nothing."""
    now = timezone.now()
    accounts.change_person(name, body, by=request.auth.user.username, now=now)
    return answer(accounts.person(name, now))


@router.get("/groups", auth=Allow(Scope.ADMIN), response=list[GroupView])
def groups(request: Request) -> HttpResponse:
    """All groups, by name."""
    return answer_list(_GROUPS, list(accounts.groups(timezone.now())))


@router.post("/groups", auth=Allow(Scope.ADMIN), response={201: GroupDetail, 200: GroupDetail})
def add_group(request: Request, body: GroupBody) -> HttpResponse:
    """Make a group; one that is there is answered with status 200."""
    _, made = Group.objects.get_or_create(name=body.name)
    return answer(accounts.group(body.name, timezone.now()), 201 if made else 200)


@router.get("/groups/{path:name}", auth=Allow(Scope.ADMIN), response={200: GroupDetail, 304: None})
def group(request: Request, name: Named) -> HttpResponse:
    """One group, with its members and what is decided for them; with an ETag."""
    return answer_state(request, accounts.group(name, timezone.now()))


@router.patch("/groups/{path:name}", auth=Allow(Scope.ADMIN), response=GroupDetail)
def change_group(request: Request, name: Named, body: GroupChange) -> HttpResponse:
    """Decide quotas, limits, images, retention and sharing for the members of a group together."""
    now = timezone.now()
    accounts.decide_for_group(name, body.rules, by=request.auth.user.username, now=now)
    return answer(accounts.group(name, now))
