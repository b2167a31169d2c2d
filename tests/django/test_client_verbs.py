"""The client's and the command line's verbs on tasks that ended, tokens and people, against the server itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import pytest
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from grid.cli import main
from grid.client import Client
from grid.core import outcomes
from grid.core.models import Task, Token
from grid.core.people.tokens import Scope
from tasks.accounts import NewPersonBody, PersonChange, TokenBody
from tasks.errors import Conflict, NotAllowed, NotFound, SpecError
from tasks.terms import Quota, Rules
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db(transaction=True)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ada(live_server: LiveServer) -> Iterator[Client]:
    """Ada's client."""
    with Client(live_server.url, doors.a_token(given.a_user(), Scope.READ, Scope.SUBMIT)) as client:
        yield client


@pytest.fixture
def operator(live_server: LiveServer) -> Iterator[Client]:
    """An operator's client."""
    with Client(live_server.url, doors.a_token(given.a_user("root", staff=True), *doors.EVERY_SCOPE)) as client:
        yield client


@pytest.fixture
def grid(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs ``grid ARGUMENTS`` as ada and gives its status and what it printed."""
    monkeypatch.setenv("GRID_SERVER", live_server.url)
    monkeypatch.setenv("GRID_TOKEN", doors.a_token(given.a_user(), Scope.READ, Scope.SUBMIT))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["grid", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code
        assert isinstance(status, int)
        return status, *capfd.readouterr()

    return run


def ended(**changes: object) -> Task:
    """A task of ada's that ended."""
    task, attempt, order = given.running(timezone.now(), **changes)
    outcomes.accept(attempt.node, given.an_outcome(order), timezone.now())
    return task


def test_a_retry_is_the_owners_a_copy_is_the_callers(ada: Client, operator: Client) -> None:
    old = ended(files={"in.txt": {"content": "7\n"}})
    again, copied = operator.get(old.id).retry(), operator.get(old.id).copy(priority=5)
    assert (again.view.owner, again.view.labels) == ("ada", {"retry_of": old.id})
    assert (copied.view.owner, copied.view.labels) == ("root", {"copy_of": old.id})
    assert Task.objects.get(id=copied.id).priority == 5
    with pytest.raises(Conflict, match="cancel it first"):
        ada.get(again.id).retry()
    with pytest.raises(NotFound):
        ada.get(copied.id)


def test_a_task_that_ended_is_removed_and_one_that_has_not_is_not(ada: Client) -> None:
    old, waits = ended(), given.a_task(timezone.now())
    ada.get(old.id).remove()
    with pytest.raises(NotFound):
        ada.get(old.id)
    with pytest.raises(Conflict, match="cancel it first"):
        ada.get(waits.id).remove()


def test_a_token_makes_none_that_opens_more_or_lives_longer(ada: Client, live_server: LiveServer) -> None:
    made = ada.create_token(TokenBody(name="cron", scopes=("read",), days=1))
    assert made.view.expires_at is not None
    with pytest.raises(SpecError, match="admin"):
        ada.create_token(TokenBody(name="more", scopes=("admin",)))
    short = ada.create_token(TokenBody(name="short", days=1)).token
    with Client(live_server.url, short) as client:
        child = client.create_token(TokenBody(name="child"))
        assert Token.objects.get(id=child.view.id).expires_at == Token.objects.get(name="short").expires_at
        with pytest.raises(SpecError, match="expires before"):
            client.create_token(TokenBody(name="longer", days=2))
    with Client(live_server.url, made.token) as client, pytest.raises(NotAllowed):
        client.create_token(TokenBody(name="by a reader", scopes=("read",)))


def test_operators_make_people_and_decide_for_them(ada: Client, operator: Client) -> None:
    assert operator.add_user(NewPersonBody(name="lab.eve", email="eve@example.org")).password
    operator.add_group("a/b")
    rules = Rules(quota=Quota(running=2), images=("busybox*",))
    changed = operator.change_user("lab.eve", PersonChange(groups=("a/b",), rules=rules))
    assert (changed.groups, changed.rules, changed.ruled) == (("a/b",), rules, True)
    assert changed.used[0].quota.running == 2
    assert operator.change_user("lab.eve", PersonChange(active=False)).rules == rules
    assert not operator.user("lab.eve").active
    assert operator.decide_for_group("a/b", Rules(share=True)).names == ("lab.eve",)
    with pytest.raises(NotFound, match="no group"):
        operator.change_user("lab.eve", PersonChange(groups=("a/b", "none"), active=True))
    assert not operator.user("lab.eve").active
    assert [one.name for one in operator.users().items] == ["ada", "lab.eve", "root"]
    assert "a/b" in [one.name for one in operator.groups()]
    assert ada.share_all(True).share
    with pytest.raises(NotAllowed):
        ada.users()


def test_the_command_line_copies_removes_and_makes_tokens(grid: Run) -> None:
    old = ended()
    status, out, _ = grid("copy", old.id, "--set", 'args=["uname", "-a"]', "--set", "name=other")
    made = Task.objects.get(id=out.strip())
    assert (status, made.name, made.spec["args"]) == (0, "other", ["uname", "-a"])
    assert grid("copy", old.id, "--set", "args")[0] == 2
    status, _, err = grid("rm", old.id, made.id)
    assert (status, err.count("has not ended"), Task.objects.filter(id=old.id).exists()) == (1, 1, False)
    status, out, _ = grid("token", "create", "cron", "--scope", "read", "--days", "30")
    assert (status, out.startswith("grid_")) == (0, True)
    assert json.loads(grid("token", "create", "laptop", "--json")[1])["view"]["scopes"] == ["read", "submit"]
    assert grid("token", "create", "x", "--scope", "everything")[0] == 2
