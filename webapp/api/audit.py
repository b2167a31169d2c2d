"""The audit log, for operators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from django.http import HttpResponse
from ninja import Query, Router
from pydantic import Field

from grid.core.models import AuditEntry
from grid.core.people import audit
from grid.core.people.tokens import Scope
from tasks.model import Record
from webapp.api.answers import answer
from webapp.auth import Allow, Request

router = Router(tags=["operating"])


class AuditFilters(Record):
    """What the list is narrowed to."""

    actor: str = ""
    action: str = ""
    limit: int = Field(default=50, ge=1, le=500)
    after: Annotated[str, Field(pattern=r"^\d{0,18}$")] = Field(default="", description="the next of the page before")


class AuditView(Record):
    """Who did what to what, when, from which address."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    address: str
    detail: dict[str, Any]


class AuditPage(Record):
    """Entries, newest first; ``next`` is the cursor of the page behind, empty at the end."""

    items: tuple[AuditView, ...]
    next: str


@router.get("/audit", auth=Allow(Scope.ADMIN), response=AuditPage)
def listed(request: Request, filters: Query[AuditFilters]) -> HttpResponse:
    """What was done here, newest first."""
    before = int(filters.after) if filters.after else None
    rows = audit.entries(actor=filters.actor, action=filters.action, before=before, limit=filters.limit + 1)
    shown = rows[: filters.limit]
    more = str(shown[-1].id) if len(rows) > filters.limit else ""
    return answer(AuditPage(items=tuple(_view(row) for row in shown), next=more))


def _view(row: AuditEntry) -> AuditView:
    return AuditView(
        id=row.id,
        at=row.at,
        actor=row.actor,
        action=row.action,
        target=row.target,
        address=row.address,
        detail=row.detail,
    )
