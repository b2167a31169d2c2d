"""Nodes as people see them."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpResponse
from django.utils import timezone
from ninja import Path, Router

from grid.core import nodes
from grid.core.tokens import Scope
from tasks.errors import NotFound
from tasks.views import NodeStatus
from webapp.api.answers import NODES, answer, answer_list
from webapp.auth import Allow, Request

NodeName = Annotated[str, Path(max_length=100)]

router = Router(tags=["nodes"])


@router.get("", auth=Allow(Scope.READ), response=list[NodeStatus])
def everyone(request: Request) -> HttpResponse:
    """All nodes with what they offer and what is in use."""
    return answer_list(NODES, nodes.status(timezone.now()))


@router.get("/{name}", auth=Allow(Scope.READ), response=NodeStatus)
def one(request: Request, name: NodeName) -> HttpResponse:
    """One node."""
    found = next((node for node in nodes.status(timezone.now()) if node.name == name), None)
    if found is None:
        raise NotFound(f'there is no node "{name}"')
    return answer(found)
