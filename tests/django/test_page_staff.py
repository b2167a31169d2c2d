"""The operators' pages and one's own account: who may, what is kept, and what is shown once."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from grid.core.ids import new_id
from grid.core.models import Attempt, Task, Token
from grid.core.people import access, audit, members, standing, tokens
from grid.core.people.tokens import Scope
from grid.core.rows import insert
from tasks.terms import Quota, Rules
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
NASTY = "<script>alert(1)</script>"


@pytest.fixture
def operator() -> Client:
    """An operator's browser."""
    return doors.browser_of(given.a_user("root", staff=True))


def text(client: Client, path: str) -> str:
    """A page that has to be there."""
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.content.decode()


def test_the_pages_are_for_operators(operator: Client) -> None:
    given.a_user()
    paths = ("/staff/", "/staff/users/ada/", "/staff/groups/Clients/", "/staff/audit/", "/staff/tokens/")
    for path in paths:
        assert operator.get(path).status_code == 200
        assert doors.browser_of(given.a_user()).get(path).status_code == 403
        assert doors.browser_of(given.a_user()).post(path, {"rules": "1", "running": "1"}).status_code == 403
        assert Client().get(path).status_code == 302
    assert standing.rules_of(given.a_user()) == Rules()
    for path in ("/staff/users/nobody/", "/staff/groups/nobody/"):
        assert operator.get(path).status_code == 404


def test_names_that_no_address_likes_have_pages_too(operator: Client) -> None:
    given.a_user("lab/ada")
    Group.objects.create(name="first\nsecond")
    page = text(operator, "/staff/")
    for link in re.findall(r'href="(/staff/(?:users|groups)/[^"]+)"', page):
        assert operator.get(link).status_code == 200
    assert "/staff/users/lab/ada/" in page
    assert "/staff/groups/first%0Asecond/" in page


def test_an_account_is_made_and_its_password_shown_once(operator: Client) -> None:
    answer = operator.post("/staff/", {"name": "eve", "email": "eve@example.org"})
    assert answer.status_code == 201
    found = re.search(r'aria-label="Password">([^<]+)<', answer.content.decode())
    assert found is not None
    assert User.objects.get(username="eve").check_password(found[1])
    assert found[1] not in text(operator, "/staff/users/eve/")
    assert operator.post("/staff/", {"name": "eve"}).status_code == 302
    assert operator.post("/staff/", {"name": NASTY}, follow=True).status_code == 200
    assert User.objects.count() == 2


def test_tokens_of_everybody_are_listed_page_by_page_and_revoked(operator: Client) -> None:
    ada, bob = given.a_user(), given.a_user("bob")
    kept = tokens.create(owner=bob, name=NASTY, scopes=[Scope.READ], now=NOW)[0]
    insert(
        Token(owner=ada, name=f"cron {number}", hash=f"{number:064}", scopes=["read"], created_at=NOW)
        for number in range(100)
    )
    first = text(operator, "/staff/tokens/")
    assert ("cron 99" in first, "cron 0<" in first, "lt;script" in first) == (True, True, False)
    [older] = re.findall(r'href="\?(owner=&amp;after=\d+)"', first)
    assert "lt;script" in text(operator, f"/staff/tokens/?{older.replace('&amp;', '&')}")
    mine = text(operator, "/staff/tokens/?owner=bob")
    assert ("lt;script" in mine, "cron" in mine, NASTY in mine) == (True, False, False)
    assert "There are none of" in text(operator, "/staff/tokens/?owner=nobody&after=x")
    answer = operator.post("/staff/tokens/?owner=bob", {"token": kept.pk})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/staff/tokens/?owner=bob")
    assert not bob.tokens.exists()
    for unknown in (str(kept.pk), "x", ""):
        assert operator.post("/staff/tokens/", {"token": unknown}).status_code == 404


def test_groups_and_the_account_are_changed_and_tokens_of_a_closed_one_open_nothing(operator: Client) -> None:
    ada, api = given.a_user(), doors.api_of(given.a_user(), Scope.READ)
    managers = Group.objects.get(name="Managers")
    operator.post("/staff/users/ada/", {"membership": "1", "groups": [managers.pk], "active": "on"})
    assert [group.name for group in ada.groups.all()] == ["Managers"]
    assert api.get("/api/v1/whoami").status_code == 200
    operator.post("/staff/users/ada/", {"membership": "1"})
    assert not ada.groups.exists()
    assert api.get("/api/v1/whoami").status_code == 401
    assert "closed" in text(operator, "/staff/")


def test_a_policy_is_decided_shown_again_and_noted(operator: Client) -> None:
    operator.post("/staff/", {"group": "a/b & students"})
    path = "/staff/groups/a/b%20&%20students/"
    sent = {
        "rules": "1",
        "running": "5",
        "storage": "10G",
        "cpu_hours": "2.5",
        "memory": "1G",
        "no_network": "on",
        "images": "ubuntu:*\njudge*\n",
        "image_names": "old/* = new/*",
        "kept_logs": "30",
        "kept_files": "success 7, * 90",
        "judge": "on",
        "share": "on",
    }
    assert operator.post(path, sent).status_code == 302
    rules = standing.rules_of(Group.objects.get(name="a/b & students"))
    assert rules.quota == Quota(running=5, storage=10 * 2**30, cpu_hours=2.5)
    assert (rules.limits.memory, rules.limits.network) == (2**30, False)
    assert rules.images == ("ubuntu:*", "judge*")
    assert rules.image_names == {"old/*": "new/*"}
    assert rules.retention.logs == {"*": 30}
    assert rules.retention.files == {"success": 7, "*": 90}
    assert rules.profiles == ("judge",)
    assert rules.share
    page = text(operator, path)
    for shown in ('value="10G"', 'value="1G"', "success 7, * 90", "old/* = new/*", "0 of 5"):
        assert shown in page
    assert audit.entries(action="policy_set")[0].actor == "root"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("running", "many", ""),
        ("storage", "10X", ""),
        ("memory", "1K", "too little"),
        ("image_names", "old", "not of the form"),
        ("kept_logs", "succeeded 3", "no verdict class"),
        ("kept_files", "success -1", ""),
    ],
)
def test_what_makes_no_sense_is_told_at_its_field_and_nothing_is_saved(
    operator: Client, field: str, value: str, words: str
) -> None:
    given.a_user()
    answer = operator.post("/staff/users/ada/", {"rules": "1", "queued": "7", field: value})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert page.count('class="wrong"') == 1
    assert words in page
    assert 'value="7"' in page
    assert standing.rules_of(given.a_user()) == Rules()


def test_a_token_is_made_shown_once_used_and_revoked() -> None:
    ada = doors.browser_of(given.a_user())
    answer = ada.post("/account/", {"name": NASTY, "opens": "submit", "days": "2"})
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    clear = re.search(r"grid_[\w-]+", answer.content.decode())
    assert clear is not None
    program = Client(headers={"authorization": f"Bearer {clear[0]}"})
    assert program.get("/api/v1/tasks").status_code == 200
    page = text(ada, "/account/")
    assert clear[0] not in page
    assert NASTY not in page
    token = Token.objects.get(owner__username="ada")
    assert token.expires_at is not None
    assert doors.browser_of(given.a_user("bob")).post(f"/account/tokens/{token.pk}/revoke/").status_code == 404
    assert ada.post(f"/account/tokens/{token.pk}/revoke/").status_code == 302
    assert program.get("/api/v1/tasks").status_code == 401


def test_only_operators_make_tokens_for_operating(operator: Client) -> None:
    ada = doors.browser_of(given.a_user())
    assert ada.post("/account/", {"name": "x", "opens": "admin"}).status_code == 422
    assert not Token.objects.exists()
    assert operator.post("/account/", {"name": "x", "opens": "admin"}).status_code == 201
    assert ada.get(f"/account/tokens/{Token.objects.get().pk}/revoke/").status_code == 405


def test_a_user_shares_with_their_groups_and_sees_their_quotas() -> None:
    ada, bob = given.a_user(), given.a_user("bob")
    for user in (ada, bob):
        members.set_groups(user, ["Clients"])
    standing.decide(ada, Rules(quota=Quota(running=3)), by="root", now=NOW)
    task = given.a_task(NOW, ada)
    browser = doors.browser_of(ada)
    assert "0 of 3" in text(browser, "/account/")
    browser.post("/account/share/", {"share": "on"})
    assert standing.rules_of(ada) == Rules(quota=Quota(running=3), share=True)
    assert access.get_task(bob, task.id).id == task.id
    browser.post("/account/share/", {})
    assert not access.visible_tasks(bob).exists()


def test_the_audit_page_filters_pages_and_escapes(operator: Client) -> None:
    for number in range(130):
        audit.note("tested", f"{NASTY}{number}.", NOW, by="ada", why=NASTY)
    page = text(operator, "/staff/audit/?actor=ada&action=tested")
    assert NASTY not in page
    assert "129." in page
    assert "29." in page
    older = re.search(r'href="\?([^"]+)">Older', page)
    assert older is not None
    last = text(operator, f"/staff/audit/?{older[1].replace('&amp;', '&')}")
    assert ">Older" not in last
    assert text(operator, "/staff/audit/?after=x")


def test_the_overview_asks_a_constant_number_of_questions(operator: Client) -> None:
    def asked() -> int:
        access.forget()
        with CaptureQueriesContext(connection) as found:
            text(operator, "/staff/")
        return len(found)

    few = asked()
    for number in range(120):
        members.set_groups(given.a_user(f"user{number:03}"), ["Clients"])
    assert asked() == few
    assert "Further users" in text(operator, "/staff/")
    assert "user119" in text(operator, "/staff/?after=user098")


def test_djangos_admin_is_entered_by_our_log_in(operator: Client) -> None:
    answer = Client().get("/admin/login/?next=/admin/core/task/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login/?next=/admin/core/task/")
    assert doors.browser_of(given.a_user()).get("/admin/", follow=True).status_code == 403
    assert Client().post("/admin/login/", {"username": "root", "password": "x"}).status_code == 302


def test_lists_of_djangos_admin_count_no_further_than_they_show() -> None:
    root = given.a_user("root", staff=True)
    User.objects.filter(pk=root.pk).update(is_superuser=True)
    task = given.a_task(NOW)
    copies = []
    for _ in range(300):
        task.id = new_id()
        copies.append(_copy(task))
    insert(copies)
    browser = doors.browser_of(User.objects.get(pk=root.pk))
    for path in ("task/", "task/?state__exact=queued", "attempt/", "auditentry/", "policy/", "token/", "node/"):
        with CaptureQueriesContext(connection) as found:
            assert browser.get(f"/admin/core/{path}").status_code == 200, path
        counts = [one["sql"] for one in found if "COUNT(" in one["sql"] and "core_" in one["sql"]]
        assert all("LIMIT" in sql for sql in counts), path
    assert Attempt.objects.count() == 0
    assert browser.get("/admin/core/task/?p=2").status_code == 200
    assert tokens.visible(root).count() == 0


def _copy(task: Task) -> Task:
    fields = {field.attname: getattr(task, field.attname) for field in Task._meta.concrete_fields}
    return Task(**fields)
