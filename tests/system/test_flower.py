"""Flower shows the node workers and each attempt by name, state and runtime; it shows nothing to strangers."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from grid.celery import hostname_of
from tests.support.commands import WAITS
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.story import may_go_on

pytestmark = pytest.mark.needs("docker", "busybox", "root")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    with RunningGrid(tmp_path_factory.mktemp("flower"), flower=True) as running:
        yield running


@pytest.fixture
def flower(grid: RunningGrid) -> Iterator[httpx.Client]:
    """A client of Flower's REST API that knows the password."""
    password = Path(grid.facts["flower_password_file"]).read_text().strip()
    with httpx.Client(base_url=grid.facts["flower_url"], auth=(grid.facts["flower_user"], password), timeout=10) as web:
        eventually(lambda: answers(web), 60)
        yield web


def answers(web: httpx.Client) -> bool:
    try:
        return web.get("api/workers").status_code == 200
    except httpx.TransportError:
        return False


def test_the_node_is_a_worker(grid: RunningGrid, flower: httpx.Client) -> None:
    name = hostname_of(grid.facts["node"])
    eventually(lambda: flower.get("api/workers", params={"status": "true"}).json().get(name) is True)


def test_an_attempt_is_shown_by_name_state_and_runtime_and_ids_only(grid: RunningGrid, flower: httpx.Client) -> None:
    name = hostname_of(grid.facts["node"])
    eventually(lambda: flower.get("api/workers", params={"status": "true"}).json().get(name) is True)
    secret = "nobody's business"
    good = grid.submit("sh", "-c", "sleep 0.5; echo $WORD", name="a good one", environment={"WORD": secret})
    bad = grid.submit("sh", "-c", "exit 3", name="a bad one")
    for task in (good, bad):
        task.wait()

    shown = {task.name: attempt(flower, task.view.attempt) for task in (good, bad)}
    assert {name: one["state"] for name, one in shown.items()} == {"a good one": "SUCCESS", "a bad one": "SUCCESS"}
    assert {name: one["name"] for name, one in shown.items()} == {name: name for name in shown}
    assert shown["a good one"]["runtime"] >= 0.5
    assert shown["a bad one"]["exception"] is None
    for task in (good, bad):
        told = shown[task.name]
        assert task.view.attempt in told["args"]
        assert secret not in str(told)
        assert "busybox" not in str(told)
        assert told["worker"] == name


def test_no_step_of_an_attempt_is_lost_in_a_crowd(grid: RunningGrid, flower: httpx.Client) -> None:
    name = hostname_of(grid.facts["node"])
    eventually(lambda: flower.get("api/workers", params={"status": "true"}).json().get(name) is True)
    tasks = [grid.submit("true") for _ in range(20)]
    for task in tasks:
        task.wait()
    shown = [attempt(flower, task.view.attempt) for task in tasks]
    steps = ("received", "started", "succeeded")
    assert [[step for step in steps if one[step] is None] for one in shown] == [[]] * len(tasks)


def test_an_attempt_that_runs_is_shown_as_started(grid: RunningGrid, flower: httpx.Client) -> None:
    name = hostname_of(grid.facts["node"])
    eventually(lambda: flower.get("api/workers", params={"status": "true"}).json().get(name) is True)
    task = grid.submit(*WAITS)
    eventually(lambda: attempts(flower).get(task.refresh().view.attempt, {}).get("state") == "STARTED")
    may_go_on(grid.directory / "node", task)
    task.wait()
    assert attempt(flower, task.view.attempt)["state"] == "SUCCESS"


def test_strangers_see_nothing(grid: RunningGrid, flower: httpx.Client) -> None:
    for path in ("", "api/workers", "api/tasks", "tasks", "workers"):
        for auth in (None, (grid.facts["flower_user"], "guess")):
            answer = httpx.get(grid.facts["flower_url"] + path, auth=auth, timeout=10)
            assert answer.status_code == 401, path
            assert grid.facts["node"] not in answer.text.split()


def test_staff_find_it_behind_their_log_in(grid: RunningGrid, flower: httpx.Client) -> None:
    """Through the grid's own address: no password of Flower's, no cookie to it or from it, nothing but a window."""
    name = hostname_of(grid.facts["node"])
    eventually(lambda: flower.get("api/workers", params={"status": "true"}).json().get(name) is True)
    with httpx.Client(base_url=grid.facts["server"], timeout=20) as browser:
        assert browser.get("/flower/").headers["location"] == "/login/?next=/flower/"
        form = {"csrfmiddlewaretoken": _form_token(browser), "username": grid.facts["user"]}
        browser.post("/login/", data={**form, "password": Path(grid.facts["password_file"]).read_text().strip()})

        assert 'href="/flower/"' in browser.get("/").text
        page = browser.get("/flower/")
        assert page.status_code == 200
        assert name in page.text
        assert "set-cookie" not in page.headers
        script = browser.get("/flower/static/js/flower.js")
        assert script.status_code == 200
        assert script.headers["content-type"].startswith(("text/javascript", "application/javascript"))
        _policy_holds(page)

        wanted = {"draw": 1, "start": 0, "length": 5, "order[0][column]": 0}
        table = browser.post("/flower/tasks/datatable", data=wanted)
        assert table.json()["draw"] == 1
        assert browser.post(f"/flower/api/worker/shutdown/{name}").status_code == 403
        assert browser.get("/flower/task/none").status_code == 404
    assert flower.post(f"api/worker/shutdown/{name}").status_code == 403


def _form_token(browser: httpx.Client) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.get("/login/").text)
    assert found is not None
    return found[1]


def _policy_holds(page: httpx.Response) -> None:
    """Nothing stands in the page that its policy keeps from running: each script is a file, or has its hash there."""
    allowed = page.headers["content-security-policy"]
    assert "'unsafe-inline'" not in allowed.partition("script-src ")[2].partition(";")[0]
    inline = re.findall(r"<script(?![^>]*src=)[^>]*>(.*?)</script>", page.text, re.DOTALL)
    assert inline
    for text in inline:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in allowed


def attempts(flower: httpx.Client) -> dict[str, dict[str, Any]]:
    """What Flower knows of all attempts, by their ids."""
    found: dict[str, dict[str, Any]] = flower.get("api/tasks", params={"limit": 100}).json()
    return found


def attempt(flower: httpx.Client, attempt_id: str) -> dict[str, Any]:
    """What Flower knows of an attempt, once it knows of its end."""
    eventually(lambda: attempts(flower).get(attempt_id, {}).get("state") in ("SUCCESS", "FAILURE"))
    return attempts(flower)[attempt_id]
