"""The database is locked, or killed and started again: callers are told to come back, and nothing is done twice."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support import postgres
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.postgres import Postgres
from tests.support.servers import Database
from tests.support.story import PATIENCE_SECONDS, a_waiting_task, ended_once, may_go_on

pytestmark = [pytest.mark.needs("docker", "busybox", "root"), pytest.mark.timeout(240)]

LEASE_SECONDS = 60
"""A lease that outlasts the fault: here nothing may be lost, and nothing is."""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    installed = postgres.programs()
    assert installed is not None
    running = Postgres(installed)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, server: Postgres) -> Iterator[RunningGrid]:
    """A grid on PostgreSQL."""
    folder = tmp_path_factory.mktemp("large")
    with RunningGrid(folder, lease_seconds=LEASE_SECONDS, database_url=server.url) as running:
        yield running


def submit(grid: RunningGrid, key: str) -> httpx.Response:
    """The answer to one submit with this idempotency key."""
    body = {"spec": {"image": "busybox:local", "args": ["true"]}, "name": key}
    headers = {"Authorization": f"Bearer {grid.token}", "Idempotency-Key": key}
    return httpx.post(f"{grid.server}/api/v1/tasks", json=body, headers=headers, timeout=PATIENCE_SECONDS)


def told_to_come_back(answer: httpx.Response) -> None:
    """The answer says that nothing was done, and when to ask again."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json"), answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert json.loads(answer.text)["detail"] == "the database is busy or away; try again"


def made_once(grid: RunningGrid, key: str) -> None:
    """A submit that was refused is made when it is repeated, and only once."""
    first, second = submit(grid, key), submit(grid, key)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert Database(grid).rows("SELECT id FROM core_task WHERE name = %s", key) == [(first.json()["id"],)]
    ended_once(grid.client.get(first.json()["id"]), 1)


def test_a_locked_database_delays_and_does_nothing_twice(grid: RunningGrid) -> None:
    running = a_waiting_task(grid)
    folder, key, name = grid.task_folder("true"), uuid.uuid4().hex, uuid.uuid4().hex
    programs = {program: grid.find(program) for program in ("web", "dispatcher", "node")}
    database = Database(grid)
    with ThreadPoolExecutor() as pool:
        with database.locked():
            told_to_come_back(submit(grid, key))
            # The client of people asks again by itself, with one key.
            patient = pool.submit(grid.client.submit, folder, name=name)
            may_go_on(grid.directory / "node", running)
            told_to_come_back(submit(grid, key))
            assert grid.client.get(running.id).state == "running", "reading goes on"
            assert not patient.done()
        task = patient.result(PATIENCE_SECONDS)
    assert database.rows("SELECT id FROM core_task WHERE name = %s", name) == [(task.id,)]
    made_once(grid, key)
    ended_once(task, 1)
    ended_once(running, 1)
    assert {program: grid.find(program) for program in programs} == programs, "nobody died of it"
    database.check()


@pytest.mark.needs("postgres")
def test_a_database_server_is_killed_and_comes_back(large: RunningGrid, server: Postgres) -> None:
    running, ending = a_waiting_task(large), a_waiting_task(large)
    folder, key, name = large.task_folder("true"), uuid.uuid4().hex, uuid.uuid4().hex
    programs = {program: large.find(program) for program in ("web", "dispatcher", "node")}
    node = large.directory / "node"
    folders = {task.id: node / "workspaces" / task.refresh().view.attempt / "task" for task in (running, ending)}
    with ThreadPoolExecutor() as pool:
        server.kill()
        told_to_come_back(submit(large, key))
        patient = pool.submit(large.client.submit, folder, name=name)
        # It ends while nobody can be told.
        (folders[ending.id] / "go").touch()
        eventually(lambda: list((node / "spool").glob("*.json")), PATIENCE_SECONDS)
        assert not patient.done()
        server.start()
        task = patient.result(PATIENCE_SECONDS)
    assert Database(large).rows("SELECT id FROM core_task WHERE name = %s", name) == [(task.id,)]
    made_once(large, key)
    (folders[running.id] / "go").touch()
    for one in (task, running, ending):
        ended_once(one, 1)
    assert {program: large.find(program) for program in programs} == programs, "nobody died of it"
    Database(large).check()
