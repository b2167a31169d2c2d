"""The audit log: what is noted, who reads it, and that nobody changes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client

from grid.core import fleet, records
from grid.core.models import AuditEntry
from grid.core.people import audit, members, standing, tokens
from grid.core.people.tokens import Scope
from grid.core.upkeep import removal
from tasks.terms import Rules
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def noted(action: str) -> list[AuditEntry]:
    """The entries of one kind, newest first."""
    return audit.entries(action=action)


def test_log_ins_are_noted_with_their_address_and_no_password() -> None:
    members.add("eve", "a long enough word", groups=["Clients"])
    browser = Client(REMOTE_ADDR="192.0.2.7")
    browser.post("/login/", {"username": "eve", "password": "wrong one"})
    browser.post("/login/", {"username": "hunter2", "password": "eve"})
    browser.post("/login/", {"username": "eve", "password": "a long enough word"})
    browser.post("/logout/")
    told = [(one.action, one.actor, one.target, one.address) for one in reversed(audit.entries())][-4:]
    assert told == [
        ("login_failed", "-", "eve", "192.0.2.7"),
        ("login_failed", "-", "(unknown name)", "192.0.2.7"),
        ("login", "eve", "eve", "192.0.2.7"),
        ("logout", "eve", "eve", "192.0.2.7"),
    ]
    assert not any("wrong one" in str(one.detail) + one.target for one in audit.entries())


def test_what_is_done_through_the_api_is_noted_with_who_asked() -> None:
    ada, root = given.a_user(), given.a_user("root", staff=True)
    task, spare = given.a_task(NOW), tokens.create(owner=ada, name="spare", scopes=[Scope.READ], now=NOW)[0]
    api = doors.api_of(root, *doors.EVERY_SCOPE)
    given.a_node(NOW)
    with_json: dict[str, Any] = {"content_type": "application/json"}
    assert api.post(f"/api/v1/tasks/{task.id}/cancel", {"reason": "spam"}, **with_json).status_code == 200
    assert api.delete(f"/api/v1/tokens/{spare.pk}").status_code == 204
    assert api.post("/api/v1/nodes/alpha/cordon", {"reason": "disk"}, **with_json).status_code == 200
    cancelled, revoked, mode = (noted(one)[0] for one in ("task_cancelled", "token_revoked", "node_mode"))
    assert (cancelled.actor, cancelled.target, cancelled.detail) == ("root", f"task {task.id}", {"reason": "spam"})
    assert (revoked.actor, revoked.target, revoked.address) == ("root", "token spare of ada", "127.0.0.1")
    assert (mode.target, mode.detail) == ("node alpha", {"mode": "cordoned", "reason": "disk"})


def test_people_policies_tokens_and_nodes_are_noted() -> None:
    root = given.a_user("root", staff=True)
    members.add("eve", "a long enough word")
    members.set_password("eve", "another long word")
    members.set_groups(eve := members.find("eve"), ["Managers"])
    standing.decide(Group.objects.get(name="Managers"), Rules(share=True), by="root", now=NOW)
    fleet.add("beta", by=root, renew=False, now=NOW)
    fleet.remove("beta", by="root", now=NOW)
    assert noted("user_made")[0].target == "user eve"
    assert noted("user_changed")[0].detail == {"changed": ["password"]}
    assert noted("groups_changed")[0].detail == {"groups": ["Managers"]}
    assert noted("policy_set")[0].detail == {"rules": {"share": True}}
    assert noted("token_made")[0].detail == {"scopes": ["node"]}
    assert [noted(one)[0].actor for one in ("node_added", "node_removed")] == ["root", "root"]
    eve.last_login = NOW
    eve.save(update_fields=["last_login"])
    assert len(noted("user_changed")) == 1


def test_commands_are_noted_as_such() -> None:
    task = given.a_task(NOW)
    call_command("rmtask", "--cancel", task.id)
    entry = noted("task_removed")[0]
    assert entry.address == audit.COMMAND
    assert entry.actor


def test_edits_in_djangos_admin_are_noted() -> None:
    root = given.a_user("root", staff=True)
    User.objects.filter(pk=root.pk).update(is_superuser=True)
    answer = doors.browser_of(User.objects.get(pk=root.pk)).post("/admin/auth/group/add/", {"name": "new"})
    assert answer.status_code == 302
    entry = noted("admin_edit")[0]
    assert (entry.actor, entry.target) == ("root", "group new")


def test_entries_are_neither_changed_nor_removed() -> None:
    task = given.a_task(NOW)
    records.cancel(task, by="ada", reason="", now=NOW)
    removal.remove(task, now=NOW)
    entry = noted("task_cancelled")[0]
    entry.actor = "somebody else"
    for change in (
        entry.save,
        entry.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(actor="x"),
    ):
        with pytest.raises(TypeError, match="audit entries are not"):
            change()
    assert noted("task_cancelled")[0].actor == "ada"


def test_operators_page_through_the_log_without_missing_any() -> None:
    api = doors.api_of(given.a_user("root", staff=True), *doors.EVERY_SCOPE)
    for number in range(7):
        audit.note("tested", str(number), NOW, by="ada")
    found: list[str] = []
    after = ""
    while True:
        page = api.get(f"/api/v1/audit?action=tested&limit=3&after={after}").json()
        found += [one["target"] for one in page["items"]]
        if not (after := page["next"]):
            break
    assert found == ["6", "5", "4", "3", "2", "1", "0"]
    assert api.get("/api/v1/audit?after=x").status_code == 422
    assert doors.api_of(given.a_user()).get("/api/v1/audit").status_code == 403
