"""A database server is killed and started again: callers are told to come back, and nothing is done twice."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import postgres
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.postgres import Postgres
from tests.support.servers import Database
from tests.support.story import PATIENCE_SECONDS, a_waiting_task, ended_once
from tests.support.submits import made_once, submit, told_to_come_back

pytestmark = [pytest.mark.needs("docker", "busybox", "root", "postgres"), pytest.mark.timeout(240)]

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
def grid(tmp_path_factory: pytest.TempPathFactory, server: Postgres) -> Iterator[RunningGrid]:
    """A grid on PostgreSQL."""
    folder = tmp_path_factory.mktemp("large")
    with RunningGrid(folder, lease_seconds=LEASE_SECONDS, database_url=server.url) as running:
        yield running


def test_a_database_server_is_killed_and_comes_back(grid: RunningGrid, server: Postgres) -> None:
    running, ending = a_waiting_task(grid), a_waiting_task(grid)
    folder, key, name = grid.task_folder("true"), uuid.uuid4().hex, uuid.uuid4().hex
    programs = {program: grid.find(program) for program in ("web", "dispatcher", "node")}
    node = grid.directory / "node"
    folders = {task.id: node / "workspaces" / task.refresh().view.attempt / "task" for task in (running, ending)}
    with ThreadPoolExecutor() as pool:
        server.kill()
        told_to_come_back(submit(grid, key))
        patient = pool.submit(grid.client.submit, folder, name=name)
        # It ends while nobody can be told.
        (folders[ending.id] / "go").touch()
        eventually(lambda: list((node / "spool").glob("*.json")), PATIENCE_SECONDS)
        assert not patient.done()
        server.start()
        task = patient.result(PATIENCE_SECONDS)
    assert Database(grid).rows("SELECT id FROM core_task WHERE name = %s", name) == [(task.id,)]
    made_once(grid, key)
    (folders[running.id] / "go").touch()
    for one in (task, running, ending):
        ended_once(one, 1)
    assert {program: grid.find(program) for program in programs} == programs, "nobody died of it"
    Database(grid).check()
