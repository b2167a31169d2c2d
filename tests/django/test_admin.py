"""The operator's pages: everything can be looked at, little can be changed, and no state by hand."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from grid.core.models import Attempt, Token
from grid.core.people.tokens import Scope
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    """An operator's browser."""
    root = given.a_user("root", staff=True)
    root.is_superuser = True
    root.save()
    return doors.browser_of(root)


def test_records_are_shown_and_cannot_be_changed(operator: Client) -> None:
    task, attempt, _ = given.running(timezone.now())
    for path in (f"task/{task.id}", f"attempt/{attempt.id}"):
        answer = operator.get(f"/admin/core/{path}/change/")
        assert answer.status_code == 200
        assert "_save" not in answer.content.decode()
        assert operator.post(f"/admin/core/{path}/change/", {"state": "succeeded"}).status_code == 403
    assert Attempt.objects.get().token not in operator.get(f"/admin/core/attempt/{attempt.id}/change/").content.decode()
    assert operator.get("/admin/core/task/?q=0").status_code == 200


def test_nodes_are_shown_and_changed_on_their_own_page(operator: Client) -> None:
    node = given.a_node(timezone.now())
    assert operator.get("/admin/core/node/").status_code == 200
    assert operator.post(f"/admin/core/node/{node.pk}/change/", {"mode": "draining"}).status_code == 403


def test_a_revoked_token_opens_nothing_from_then_on(operator: Client) -> None:
    ada = doors.api_of(given.a_user(), Scope.READ)
    assert ada.get("/api/v1/whoami").status_code == 200
    token = Token.objects.get(owner__username="ada")
    assert token.hash not in operator.get(f"/admin/core/token/{token.pk}/change/").content.decode()
    assert operator.post(f"/admin/core/token/{token.pk}/delete/", {"post": "yes"}).status_code == 302
    assert ada.get("/api/v1/whoami").status_code == 401
