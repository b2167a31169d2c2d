"""The operator's pages: look at the records, revoke tokens. States are never changed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from grid.core.models import Attempt, AuditEntry, Node, Policy, Task, Token
from grid.core.people import tokens

if TYPE_CHECKING:
    AnyAdmin = admin.ModelAdmin[Any]
    AnyPaginator = Paginator[Any]
else:  # Django's own class takes no parameters
    AnyAdmin = admin.ModelAdmin
    AnyPaginator = Paginator


MOST_COUNTED = 5_000


class ShortCount(AnyPaginator):
    """Pages of the first few thousand rows: counting a million to write a number above a list is not worth it."""

    @cached_property
    def count(self) -> int:
        """The number of rows, counted no further than ``MOST_COUNTED``."""
        rows = self.object_list
        return rows.order_by().values("pk")[:MOST_COUNTED].count() if isinstance(rows, QuerySet) else len(rows)


class Shown(AnyAdmin):
    """Records to look at; whoever may see them may not change them."""

    list_per_page = 50
    paginator = ShortCount
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Records are made by the grid's verbs."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Moves are made by the grid's verbs."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """What was run stays on record."""
        return False


@admin.register(Task)
class TaskAdmin(Shown):
    """Tasks of everybody."""

    list_display = ("name", "owner", "state", "verdict", "node_name", "created_at")
    list_filter = ("state",)
    list_select_related = ("owner",)
    exclude = ("demand", "attempt", "spec_hash")
    search_fields = ("id__startswith",)
    ordering = ("-id",)


@admin.register(Attempt)
class AttemptAdmin(Shown):
    """Attempts; the words that open them to a node are not shown."""

    list_display = ("id", "task", "number", "node", "state", "verdict", "assigned_at")
    list_select_related = ("task", "node")
    search_fields = ("task__id",)
    exclude = ("nonce", "token")
    ordering = ("-id",)


@admin.register(Node)
class NodeAdmin(Shown):
    """Nodes; the page of nodes has the buttons that cordon, drain and resume them."""

    list_display = ("name", "ready", "mode", "mode_by", "last_seen")
    exclude = ("session",)


@admin.register(Policy)
class PolicyAdmin(Shown):
    """What is decided for users and groups; it is changed on the pages of people."""

    list_display = ("__str__", "user", "group", "changed_by", "changed_at")
    list_select_related = ("user", "group")
    ordering = ("-id",)


@admin.register(AuditEntry)
class AuditAdmin(Shown):
    """Who did what."""

    list_display = ("at", "actor", "action", "target", "address")
    search_fields = ("actor__exact", "action__exact")
    ordering = ("-id",)


@admin.register(Token)
class TokenAdmin(Shown):
    """Tokens: to see who holds one, and to revoke it by deleting it."""

    list_display = ("name", "owner", "node", "scopes", "created_at", "expires_at", "last_used_at")
    list_select_related = ("owner", "node")
    exclude = ("hash",)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Revoking is what this page is for."""
        return request.user.is_active and request.user.is_staff

    def delete_model(self, request: HttpRequest, obj: Token) -> None:
        """Revoke one."""
        obj.delete()
        tokens.forget()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Token]) -> None:
        """Revoke several."""
        queryset.delete()
        tokens.forget()
