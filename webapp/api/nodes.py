"""Nodes as people see them, and the operator's verbs on them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from django.http import HttpResponse
from django.utils import timezone
from ninja import Path, Query, Router
from pydantic import Field

from grid.core import fleet, nodes
from grid.core.people.tokens import Scope
from grid.core.upkeep import heat
from tasks.errors import NotFound
from tasks.model import Record
from tasks.views import NewNode, NodeSampleView, NodeStatus
from webapp.api.answers import NODES, SAMPLES, answer, answer_list
from webapp.auth import Allow, Request

NodeName = Annotated[str, Path(max_length=100)]
Reason = Annotated[str, Field(max_length=500)]

router = Router(tags=["nodes"])


class AddBody(Record):
    """The node to make; ``renew`` gives one that is there a new token in place of its old ones."""

    name: str
    renew: bool = False


class ModeBody(Record):
    """Why."""

    reason: Reason = ""


class DrainBody(Record):
    """Why, and after how many seconds what still runs is ended and tried elsewhere (0: at once, null: never)."""

    reason: Reason = ""
    deadline_seconds: Annotated[float, Field(ge=0, le=10 * 365 * 86400)] | None = None


@router.get("", auth=Allow(Scope.READ), response=list[NodeStatus])
def everyone(request: Request) -> HttpResponse:
    """All nodes with what they offer and what is in use."""
    return answer_list(NODES, nodes.status(timezone.now()))


@router.post("", auth=Allow(Scope.ADMIN), response={201: NewNode})
def add(request: Request, body: AddBody) -> HttpResponse:
    """Make a node; its token is in the answer, and nowhere else. 409 when there is one of this name."""
    node, clear = fleet.add(body.name, by=request.auth.user, renew=body.renew, now=timezone.now())
    return answer(NewNode(name=node.name, token=clear), status=201)


@router.get("/{name}", auth=Allow(Scope.READ), response=NodeStatus)
def one(request: Request, name: NodeName) -> HttpResponse:
    """One node."""
    return _status(name)


@router.get("/{name}/history", auth=Allow(Scope.READ), response=list[NodeSampleView])
def history(request: Request, name: NodeName, hours: Annotated[float, Query(gt=0, le=168)] = 24) -> HttpResponse:
    """How busy the node was in the last hours, in steps of ten minutes, oldest first; kept for a week."""
    return answer_list(SAMPLES, heat.history(fleet.find(name), timezone.now() - timedelta(hours=hours)))


@router.delete("/{name}", auth=Allow(Scope.ADMIN), response={204: None})
def remove(request: Request, name: NodeName) -> HttpResponse:
    """Take a node and its tokens out of the grid; 409 while an attempt is on it."""
    fleet.remove(name, by=request.auth.user.username, now=timezone.now())
    return HttpResponse(status=204)


@router.post("/{name}/cordon", auth=Allow(Scope.ADMIN), response=NodeStatus)
def cordon(request: Request, name: NodeName, body: ModeBody) -> HttpResponse:
    """Give the node nothing new; what runs there goes on."""
    fleet.cordon(name, by=request.auth.user.username, reason=body.reason, now=timezone.now())
    return _status(name)


@router.post("/{name}/drain", auth=Allow(Scope.ADMIN), response=NodeStatus)
def drain(request: Request, name: NodeName, body: DrainBody) -> HttpResponse:
    """Empty the node: nothing new, what runs there may finish, until the deadline if there is one."""
    now = timezone.now()
    until = None if body.deadline_seconds is None else now + timedelta(seconds=body.deadline_seconds)
    fleet.drain(name, by=request.auth.user.username, reason=body.reason, now=now, until=until)
    return _status(name)


@router.post("/{name}/resume", auth=Allow(Scope.ADMIN), response=NodeStatus)
def resume(request: Request, name: NodeName, body: ModeBody) -> HttpResponse:
    """Let the node take work again."""
    fleet.resume(name, by=request.auth.user.username, reason=body.reason, now=timezone.now())
    return _status(name)


def _status(name: str) -> HttpResponse:
    found = next((node for node in nodes.status(timezone.now()) if node.name == name), None)
    if found is None:
        raise NotFound(f'there is no node "{name}"')
    return answer(found)
