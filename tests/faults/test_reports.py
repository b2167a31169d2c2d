"""A report that is cut on its way: a result is whole or absent, never half, and is accepted once."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nodes.attempt import AttemptFolder
from nodes.logs import LogFiles
from nodes.reporter import Reporter
from nodes.server import Server
from nodes.spool import Spool, Unreported
from tasks.order import Order
from tasks.outcome import Evidence, LogTail, Outcome, OutputFile
from tests.support.grids import RunningGrid, Worker
from tests.support.node_api import NodeApi, eventually, order, serving, sha256
from tests.support.proxy import Cut, Proxy
from tests.support.raw_http import answer_to, request
from tests.support.story import a_waiting_task, ended_once, nothing_is_left

OUTCOME = b"/outcome "
RESULT = b"forty-two\n"


@pytest.mark.parametrize(("up", "step"), [(True, 5), (False, 1)], ids=["request", "answer"])
def test_a_report_that_is_cut_arrives_whole_and_once(tmp_path: Path, up: bool, step: int) -> None:
    """Every byte of the answer; the request is cut at every byte below, on a real server."""
    api = NodeApi(orders={"a": order("a", "true")})
    outcome = an_outcome("a", "token-a")
    entry = Unreported(outcome=outcome, task="t")
    settled: list[str] = []
    with serving(api) as address, Proxy(urlsplit(address).port or 0) as proxy:
        server = Server(proxy.address, api.token)
        reporter = Reporter(server, Spool(tmp_path / "spool"), settled.append)
        assert reporter.report(entry, LogFiles("a", outcome.token, {}))
        cuts = range(0, proxy.bytes_up if up else proxy.bytes_down, step)
        for number in cuts:
            api.outcomes.clear()
            proxy.cut(Cut(up, number, OUTCOME, reset=number % 2 == 1))
            assert reporter.report(entry, LogFiles("a", outcome.token, {}))
            assert api.file("a", "result") == RESULT
        server.close()
        # What is cut after its last byte was answered all the same, perhaps before the proxy had made the cut.
        eventually(lambda: len(proxy.cuts_made) == len(cuts))
    assert len(cuts) > 100
    assert settled == ["a"] * (len(cuts) + 1)
    assert reporter.pending() == []
    if not up:  # each of them had been accepted, and was refused when it came again
        assert api.requests["POST /attempts/a/outcome"] == 1 + 2 * len(cuts)


@pytest.mark.needs("docker", "busybox", "root")
def test_a_report_cut_at_every_byte_changes_nothing_on_the_server(grid: RunningGrid) -> None:
    """Hundreds of connections keep two processors busy: its grid is one where nobody loses a lease by that."""
    teller = grid.add_node("teller", "--tags", "teller")
    task = a_waiting_task(grid, "teller")
    told = order_of(teller, task.refresh().view.attempt)
    outcome = an_outcome(told.attempt, told.token)
    path = f"/api/v1/node/attempts/{told.attempt}/outcome"
    whole = request("POST", path, outcome.model_dump_json().encode(), teller.environment["GRID_TOKEN"])
    with Proxy(urlsplit(grid.server).port or 0) as proxy:
        for number in range(len(whole)):
            proxy.cut(Cut(True, number, b"POST " + path.encode()))
            assert answer_to(proxy.port, whole) == b""
        assert len(proxy.cuts_made) == len(whole)
        assert task.refresh().state == "running"
        assert b" 200 " in answer_to(proxy.port, whole).splitlines()[0]
        assert b" 409 " in answer_to(proxy.port, whole).splitlines()[0]
    ended_once(task, runs=1)
    assert task.result().files["result"].read_bytes() == RESULT
    nothing_is_left(grid, teller)


# --------------------------------------------------------------------------------------------------------------- parts
def an_outcome(attempt: str, token: str) -> Outcome:
    """The outcome of a program that printed, and left one small file."""
    return Outcome(
        attempt=attempt,
        token=token,
        evidence=Evidence(exit_code=0),
        files=(OutputFile(path="result", sha256=sha256(RESULT), size=len(RESULT)),),
        inline={sha256(RESULT): base64.b64encode(RESULT).decode()},
        log_tails={"stderr": LogTail(offset=0, data=base64.b64encode(b"said\n").decode())},
    )


def order_of(node: Worker, attempt: str) -> Order:
    """What the node was told of an attempt that runs there."""
    told = AttemptFolder(node.directory / "attempts" / attempt).order()
    assert told is not None
    return told
