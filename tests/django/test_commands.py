"""The operator's commands: people, tasks, nodes; `retention` is tested with what it does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from grid.core import logs, nodes
from grid.core.models import Attempt, Event, Task
from tasks.errors import Stale
from tests.django import builders as given
from webapp import settings as server_settings

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def run(name: str, *arguments: str) -> str:
    """What a command prints."""
    said = io.StringIO()
    call_command(name, *arguments, stdout=said)
    return said.getvalue()


def test_a_user_is_made_with_a_password_that_opens_the_pages() -> None:
    password = run("adduser", "eve", "--generate", "--email", "eve@example.org").strip()
    user = User.objects.get(username="eve")
    assert (user.email, user.is_staff) == ("eve@example.org", False)
    assert [group.name for group in user.groups.all()] == ["Clients"]
    assert user.has_perm("core.add_task")
    assert Client().post("/login/", {"username": "eve", "password": password}).status_code == 302


def test_a_password_is_read_from_standard_input_and_ends_the_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    old = run("adduser", "eve", "--generate").strip()
    browser = Client()
    browser.post("/login/", {"username": "eve", "password": old})
    monkeypatch.setattr(sys, "stdin", io.StringIO("a new and long one\n"))
    assert run("passwd", "eve", "--stdin") == ""
    assert User.objects.get(username="eve").check_password("a new and long one")
    assert browser.get("/").status_code == 302


@pytest.mark.parametrize(
    ("name", "password", "options", "words"),
    [
        ("ada", "long enough for all", [], "there is a user"),
        ("bob", "short", [], "password: "),
        ("b b", "long enough for all", [], "username: "),
        ("bob", "long enough for all", ["--group", "Nobody"], 'no group "Nobody"'),
    ],
)
def test_a_user_who_cannot_be_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, name: str, password: str, options: list[str], words: str
) -> None:
    given.a_user()
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
    with pytest.raises(CommandError, match=words):
        run("adduser", name, "--stdin", *options)
    assert User.objects.count() == 1


def test_a_password_is_not_asked_for_where_nobody_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    given.a_user()
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(CommandError, match="no terminal"):
        run("passwd", "ada")
    with pytest.raises(CommandError, match="there is no user"):
        run("passwd", "nobody", "--generate")


def test_tasks_are_listed_by_where_they_are() -> None:
    node = given.a_node(NOW)
    waiting, running = given.a_task(NOW, name="first"), given.a_task(NOW, name="second")
    ended = given.a_task(NOW, given.a_user("bob"), name="third")
    given.taken(given.assigned(running, node, NOW), NOW)
    given.finished(given.taken(given.assigned(ended, node, NOW), NOW), node, NOW)

    def listed(*options: str) -> list[str]:
        return [line.split("\t")[0] for line in run("lstask", *options).splitlines()]

    assert listed() == [waiting.id]
    assert listed("--assigned") == [running.id]
    assert listed("--resolved") == [ended.id]
    assert listed("--assigned", "--resolved") == [ended.id, running.id]
    assert listed("--all", "--limit", "2") == [ended.id, running.id]
    assert listed("--all", "--owner", "ada") == [running.id, waiting.id]
    assert run("lstask", "--resolved") == f"{ended.id}\tsucceeded\tbob\talpha\tsucceeded\tthird\n"


def test_ended_tasks_are_removed_and_others_are_not() -> None:
    queued = given.a_task(NOW)
    ended, attempt, order = given.running(NOW)
    logs.append(attempt.id, "stdout", 0, b"x")
    given.finished(order, attempt.node, NOW)
    with pytest.raises(CommandError, match=f"there is no task none; the task {queued.id} has not ended"):
        run("rmtask", "none", queued.id, ended.id)
    assert [task.id for task in Task.objects.all()] == [queued.id]
    assert not Attempt.objects.exists()
    assert not Event.objects.filter(task_id=ended.id).exists()
    assert logs.read(attempt, "stdout", 0, 10).size == 0
    run("rmtask", "--cancel", queued.id)
    assert not Task.objects.exists()


def test_a_running_task_is_cancelled_first_and_removed_once_it_has_ended() -> None:
    task, _, _ = given.running(timezone.now())
    with pytest.raises(CommandError, match="it is being cancelled"):
        run("rmtask", "--cancel", task.id)
    task.refresh_from_db()
    assert task.cancel_requested_at is not None


def test_tasks_are_taken_back_from_their_nodes_and_cost_no_retry() -> None:
    long_ago = given.later(timezone.now(), -7200)
    node = given.a_node(long_ago)
    task, sent, fresh = (given.a_task(long_ago) for _ in range(3))
    order = given.taken(attempt := given.assigned(task, node, long_ago), long_ago)
    given.assigned(sent, node, long_ago)
    given.assigned(fresh, node, timezone.now())
    assert sorted(run("unassign", "1h").split()) == sorted([task.id, sent.id])
    states = {one.id: one.state for one in Task.objects.all()}
    assert states == {task.id: "queued", sent.id: "queued", fresh.id: "assigned"}
    attempt.refresh_from_db()
    assert attempt.verdict == "handed_back"
    with pytest.raises(Stale):
        nodes.append_log(attempt.node, attempt.id, order.token, "stdout", 0, b"x")
    assert run("unassign", "0s", "--node", "beta") == ""
    with pytest.raises(CommandError):
        run("unassign", "soon")


def test_a_node_can_be_run_by_the_servers_command(tmp_path: Path) -> None:
    environ = {**os.environ, "GRID_DIR": str(tmp_path)}
    manage = Path(server_settings.__file__).parents[1] / "manage.py"
    done = subprocess.run(
        [sys.executable, str(manage), "runnode", "--help"], env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert "--token" in done.stdout
