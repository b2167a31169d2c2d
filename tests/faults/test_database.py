"""The database is locked for a while: callers are told to come back, and nothing is done twice."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.grids import RunningGrid
from tests.support.servers import Database
from tests.support.story import PATIENCE_SECONDS, a_waiting_task, ended_once, may_go_on
from tests.support.submits import made_once, submit, told_to_come_back

pytestmark = [pytest.mark.needs("docker", "busybox", "root"), pytest.mark.timeout(240)]


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
