"""Several dispatchers on one database: one acts, another takes over within its lease, and nobody acts out of turn."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from grid import Task
from tests.support import postgres
from tests.support.grid_fixtures import LEASE_SECONDS
from tests.support.grids import RunningGrid
from tests.support.node_api import eventually
from tests.support.postgres import Postgres
from tests.support.quick_node import QuickNode, outcome_of
from tests.support.servers import Database, Dispatcher, Lead, frozen
from tests.support.story import PATIENCE_SECONDS, ended, ended_once

pytestmark = [pytest.mark.needs("root"), pytest.mark.timeout(240)]

DATABASE_WAIT_SECONDS = 3
"""So long PostgreSQL lets a process sleep that holds a lock."""
ROUNDS = 20
REFUSED = ("another process holds the role dispatcher", "the database does not answer")
"""What a dispatcher says that wants to write out of turn; the latter where the database has hung up meanwhile."""
DECIDE_SECONDS = 0.3
AT_ONCE = 8
KILL_SECONDS = (0.0, 0.03, 0.1)
"""How long after there is room the dispatcher is killed; it places all tasks at once."""


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def grid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    """A grid without a node."""
    with database_of(str(request.param)) as url:
        folder = tmp_path_factory.mktemp("grid")
        made = RunningGrid(
            folder,
            node=False,
            lease_seconds=LEASE_SECONDS,
            database_url=url,
            database_wait_seconds=DATABASE_WAIT_SECONDS,
        )
        with made as running:
            yield running


@contextmanager
def database_of(kind: str) -> Iterator[str]:
    """The address of a database; empty for the file in the grid's folder."""
    if kind == "sqlite":
        yield ""
        return
    installed = postgres.programs()
    assert installed is not None
    server = Postgres(installed)
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="module")
def node(grid: RunningGrid) -> Iterator[QuickNode]:
    """A node for which the tests speak."""
    with QuickNode(grid, "quick") as running:
        yield running


def done(node: QuickNode, *tasks: Task) -> None:
    """The tasks are placed, taken up and done, once each."""
    for order in [node.take(task.id) for task in tasks]:
        node.report(outcome_of(order, {}))
    for task in tasks:
        ended_once(task, 1)


@pytest.fixture(scope="module")
def both(grid: RunningGrid) -> Iterator[dict[int, Dispatcher]]:
    """Two dispatchers by their process ids, and no other one: the grid's supervisor sleeps."""
    with grid.held():
        killed = grid.kill("dispatcher")
        eventually(lambda: ended(killed))
        with Dispatcher(grid, "dispatcher-a") as one, Dispatcher(grid, "dispatcher-b") as other:
            pair = {one.pid: one, other.pid: other}
            leads(Database(grid), pair)
            yield pair


def leads(database: Database, both: dict[int, Dispatcher]) -> Lead:
    """Which of them leads; for as long as its lease that may still be one that was killed."""
    eventually(lambda: database.lead().pid in both, PATIENCE_SECONDS)
    return database.lead()


@contextmanager
def killed(pid: int, both: dict[int, Dispatcher]) -> Iterator[None]:
    """While this lasts one of them is not there."""
    slain = both.pop(pid)
    slain.kill()
    try:
        yield
    finally:
        slain.start()
        both[slain.pid] = slain


def test_a_standby_takes_over_when_the_dispatcher_is_killed(
    grid: RunningGrid, node: QuickNode, both: dict[int, Dispatcher]
) -> None:
    database = Database(grid)
    before = leads(database, both)
    [standby] = set(both) - {before.pid}
    done(node, grid.submit("true"))
    with killed(before.pid, both):
        done(node, grid.submit("true"))
        acts_instead(standby, database, before)
    database.check()


def test_a_dispatcher_that_slept_past_its_lease_writes_nothing_more(
    grid: RunningGrid, node: QuickNode, both: dict[int, Dispatcher]
) -> None:
    """It is stopped at any moment of its round, finds that it does not lead any more, and stands by."""
    database = Database(grid)
    for _ in range(2):
        before = leads(database, both)
        [standby] = set(both) - {before.pid}
        frozen(before.pid, database)
        tasks = [grid.submit("true") for _ in range(3)]
        done(node, *tasks)
        acts_instead(standby, database, before)
        led = both[before.pid].said("leads")
        waiting = [grid.submit("true") for _ in range(3)]
        stands_by_again(both[before.pid])
        done(node, *waiting)
        acts_instead(standby, database, before)
        assert both[before.pid].said("leads") == led, "the one that slept does not act again"
    database.check()


def test_what_a_dispatcher_had_decided_before_it_slept_is_not_written(
    grid: RunningGrid, node: QuickNode, both: dict[int, Dispatcher]
) -> None:
    """Its decision is made, its write waits for a lock, and there it sleeps until another one acts."""
    database = Database(grid)
    refused = False
    for _ in range(ROUNDS):
        before = leads(database, both)
        slow = both[before.pid]
        # It has just made sure of its lease, and will not ask again soon.
        renewed(database)
        frozen(before.pid, database)
        task = grid.submit("true")
        with database.locked():
            os.kill(before.pid, signal.SIGCONT)
            time.sleep(DECIDE_SECONDS)
            os.kill(before.pid, signal.SIGSTOP)
        done(node, task)
        assert database.lead().pid != before.pid
        told = [slow.said(words) for words in REFUSED]
        stands_by_again(slow)
        done(node, grid.submit("true"))
        refused = [slow.said(words) for words in REFUSED] != told
        if refused:
            break
    assert refused, "in no round was it that far when it fell asleep"
    database.check()


def acts_instead(standby: int, database: Database, before: Lead) -> None:
    """The standby has the role, under a later fence: on a busy machine it may have lost and taken it more than once."""
    after = database.lead()
    assert after.pid == standby
    assert after.fence > before.fence


def renewed(database: Database) -> None:
    """Wait until the dispatcher that leads has renewed its lease."""
    before = database.lead()
    eventually(lambda: database.lead().until != before.until, PATIENCE_SECONDS)


def stands_by_again(slept: Dispatcher) -> None:
    """It goes on, and finds that it does not lead any more."""
    before = slept.said("stands by")
    os.kill(slept.pid, signal.SIGCONT)
    eventually(lambda: slept.said("stands by") > before, PATIENCE_SECONDS)


def test_a_dispatcher_that_is_killed_while_it_places_leaves_no_half_placement(
    grid: RunningGrid, node: QuickNode, both: dict[int, Dispatcher]
) -> None:
    database = Database(grid)
    for seconds in KILL_SECONDS:
        name = f"killed after {seconds} s"
        grid.client.cordon(node.name)
        folder = grid.task_folder("true")
        tasks = [grid.client.submit(folder, name=name) for _ in range(AT_ONCE)]
        leader = leads(database, both).pid
        grid.client.resume(node.name)
        time.sleep(seconds)
        with killed(leader, both):
            database.check()
        for order in [node.take(task.id) for task in tasks]:
            node.report(outcome_of(order, {}))
        found = database.rows("SELECT state FROM core_task WHERE name = %s", name)
        assert found == [("succeeded",)] * AT_ONCE
        begun = "SELECT t.id FROM core_event e JOIN core_task t ON t.id = e.task_id WHERE e.kind = 'started'"
        found = database.rows(f"{begun} AND t.name = %s ORDER BY t.id", name)
        assert found == sorted((task.id,) for task in tasks), "each was taken up once"
    database.check()
