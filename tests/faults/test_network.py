"""A bad network between a node and the server: lines that are cut, slow, or away for longer than a lease."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from grid import Task
from tests.support.containers import containers
from tests.support.grids import RunningGrid, Worker
from tests.support.node_api import eventually
from tests.support.proxy import Cut, Proxy
from tests.support.story import (
    PATIENCE_SECONDS,
    a_waiting_task,
    ended_once,
    identity,
    may_go_on,
    nothing_is_left,
    runs_on,
)

OUTCOME, ORDER, UPLOAD = b"/outcome ", b"/order ", b"PUT /api/v1/node/attempts/"
RESULT = b"forty-two\n"
LARGE_BYTES = 300_000
# Prints, and leaves one small file that travels in the outcome.
SMALL = ("sh", "-c", "echo said; echo forty-two > result")

pytestmark = pytest.mark.needs("docker", "busybox", "root")


@pytest.fixture(scope="module")
def line(grid: RunningGrid) -> Iterator[Proxy]:
    """The line between the node ``far`` and the server."""
    with Proxy(urlsplit(grid.server).port or 0) as running:
        yield running


@pytest.fixture(scope="module")
def far(grid: RunningGrid, line: Proxy) -> Worker:
    """A node that reaches the server over the ``line`` only."""
    return grid.add_node("far", "--tags", "far,pair", "--server", line.address)


@pytest.fixture
def proxy(line: Proxy) -> Iterator[Proxy]:
    """The line, in order again after the test."""
    yield line
    line.spare()
    line.delay_seconds, line.bytes_per_second = 0.0, 0
    line.appear()


def test_what_is_cut_is_sent_again_until_it_has_arrived(grid: RunningGrid, far: Worker, proxy: Proxy) -> None:
    made = len(proxy.cuts_made)
    lost_orders = [Cut(False, number, ORDER) for number in (0, 20)]
    proxy.cut(*lost_orders)
    first = [grid.submit(*SMALL, requires=["far"], collect=[{"glob": "result"}]) for _ in range(2)]
    eventually(lambda: len(proxy.cuts_made) - made == len(lost_orders), PATIENCE_SECONDS)
    cuts = [Cut(True, number, OUTCOME, reset=number % 2 == 1) for number in (0, 1, 90, 301, 700)]
    cuts += [Cut(False, number, OUTCOME, reset=number % 2 == 1) for number in (0, 1, 16, 81)]
    proxy.cut(*cuts)
    more = [grid.submit(*SMALL, requires=["far"], collect=[{"glob": "result"}]) for _ in range(4)]
    for task in (*first, *more):
        ended_once(task, runs=1)
        assert task.result().files["result"].read_bytes() == RESULT
        assert "".join(task.logs()) == "said\n"
    # They are asked for at the same time: either may be the first.
    assert sorted(proxy.cuts_made[made:][:2], key=lambda cut: cut.after_bytes) == lost_orders
    assert len(proxy.cuts_made) - made >= len(cuts)
    nothing_is_left(grid, far)


def test_a_result_waits_in_the_spool_while_its_way_is_cut(grid: RunningGrid, far: Worker, proxy: Proxy) -> None:
    task = a_waiting_task(grid, "far", collect=[{"glob": "go"}])
    made = len(proxy.cuts_made)
    # More than are tried at once: what then is still not home is sent again from the disk.
    cuts = [Cut(True, 200 + number, OUTCOME) for number in range(5)]
    proxy.cut(*cuts)
    may_go_on(far.directory, task)
    eventually(lambda: (far.directory / "spool" / f"{task.view.attempt}.json").exists(), PATIENCE_SECONDS)
    ended_once(task, runs=1)
    assert proxy.cuts_made[made:] == cuts
    assert "report_later" in far.log.read_text()
    assert task.result().files["go"].read_bytes() == b""
    nothing_is_left(grid, far)


def test_an_upload_cut_in_the_middle_is_begun_again(grid: RunningGrid, far: Worker, proxy: Proxy) -> None:
    made = len(proxy.cuts_made)
    cuts = [Cut(True, number, UPLOAD) for number in (50, 1000, 150_000, LARGE_BYTES)]
    proxy.cut(*cuts)
    task = a_large_result(grid)
    ended_once(task, runs=1)
    assert proxy.cuts_made[made:] == cuts
    assert len(task.result().files["large"].read_bytes()) == LARGE_BYTES
    nothing_is_left(grid, far)


def test_a_narrow_slow_line_costs_time_and_nothing_else(grid: RunningGrid, far: Worker, proxy: Proxy) -> None:
    before = proxy.bytes_up
    proxy.bytes_per_second, proxy.delay_seconds = 120_000, 0.03
    begun = time.monotonic()
    task = a_large_result(grid)
    ended_once(task, runs=1)
    # Longer than a lease, in which the heartbeats came through.
    assert time.monotonic() - begun > LARGE_BYTES / proxy.bytes_per_second > 2
    assert proxy.bytes_up - before > LARGE_BYTES
    assert len(task.result().files["large"].read_bytes()) == LARGE_BYTES
    nothing_is_left(grid, far)


def test_a_node_that_is_cut_off_for_longer_than_its_lease(grid: RunningGrid, far: Worker, proxy: Proxy) -> None:
    """One of its tasks has ended and waits to be reported, the other one still runs. Both run once more elsewhere."""
    ended, running = a_waiting_task(grid, "pair"), a_waiting_task(grid, "pair")
    assert (ended.refresh().node, running.refresh().node) == ("far", "far")
    near = grid.add_node("near", "--tags", "pair")
    proxy.cut(*[Cut(True, 0, OUTCOME)] * 100)
    may_go_on(far.directory, ended)
    eventually(lambda: (far.directory / "spool" / f"{ended.view.attempt}.json").exists(), PATIENCE_SECONDS)

    proxy.vanish()
    proxy.spare()
    eventually(lambda: grid.node_is("far", online=False), PATIENCE_SECONDS)
    runs_on(ended, "near")
    runs_on(running, "near")
    eventually(lambda: not any(one.running for one in containers(identity(grid, far))), PATIENCE_SECONDS)
    assert "no word from the server" in far.log.read_text()
    assert proxy.held > 0

    proxy.appear()
    eventually(lambda: "outcome_stale" in far.log.read_text(), PATIENCE_SECONDS)
    eventually(lambda: grid.node_is("far", online=True, ready=True), PATIENCE_SECONDS)
    assert (ended.refresh().state, running.refresh().state) == ("running", "running")
    for task in (ended, running):
        may_go_on(near.directory, task)
        ended_once(task)
        first = task.attempts()[0]
        assert (first.node, first.verdict) == ("far", "node_lost")
    nothing_is_left(grid, far)
    nothing_is_left(grid, near)


# --------------------------------------------------------------------------------------------------------------- parts
def a_large_result(grid: RunningGrid) -> Task:
    """A task on ``far`` whose result does not fit into the report."""
    script = f"head -c {LARGE_BYTES} /dev/urandom > large"
    return grid.submit("sh", "-c", script, requires=["far"], collect=[{"glob": "large"}])
