"""Outcomes and logs get home: at once, after an outage, after a restart of the agent; or are given up for a reason."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodes.logs import TAIL_BYTES, LogFiles, LogShipper
from nodes.reporter import Reporter
from nodes.server import Server
from nodes.spool import Spool, Unreported
from tasks.outcome import Evidence, Outcome, OutputFile
from tests.support.node_api import NodeApi, eventually, order, serving, sha256

TOKEN = "token-a"


@pytest.fixture
def api() -> NodeApi:
    return NodeApi(orders={"a": order("a", "true")})


@pytest.fixture
def server(api: NodeApi) -> Iterator[Server]:
    with serving(api) as address:
        server = Server(address, api.token)
        yield server
        server.close()


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def make_reporter(server: Server, done: list[str], tmp_path: Path) -> Iterator[Callable[[], Reporter]]:
    made: list[Reporter] = []

    def make() -> Reporter:
        made.append(Reporter(server, Spool(tmp_path / "spool"), done.append))
        return made[-1]

    yield make
    for reporter in made:
        reporter.close()


def unreported(files: tuple[OutputFile, ...] = (), uploads: dict[str, str] | None = None, **logs: Path) -> Unreported:
    outcome = Outcome(attempt="a", token=TOKEN, evidence=Evidence(exit_code=0), files=files)
    paths = {name: str(path) for name, path in logs.items()}
    return Unreported(outcome=outcome, task="t", uploads=uploads or {}, logs=paths)


def captured(folder: Path, size: int) -> Path:
    path = folder / "stdout"
    path.write_bytes(bytes(number % 251 for number in range(size)))
    return path


def test_an_outcome_with_its_log_takes_one_request(
    api: NodeApi, make_reporter: Callable[[], Reporter], done: list[str], tmp_path: Path
) -> None:
    stdout = captured(tmp_path, 1000)
    assert make_reporter().report(unreported(stdout=stdout), LogFiles("a", TOKEN, {"stdout": stdout}))
    assert dict(api.requests) == {"POST /attempts/a/outcome": 1}
    assert api.logs["a", "stdout"] == stdout.read_bytes()
    assert done == ["a"]
    assert list(tmp_path.glob("spool/*")) == []


def test_a_long_log_is_sent_ahead(api: NodeApi, make_reporter: Callable[[], Reporter], tmp_path: Path) -> None:
    stdout = captured(tmp_path, 700_000)
    assert make_reporter().report(unreported(stdout=stdout), LogFiles("a", TOKEN, {"stdout": stdout}))
    assert api.logs["a", "stdout"] == stdout.read_bytes()
    tails = api.outcomes["a"].log_tails.values()
    assert sum(len(base64.b64decode(tail.data)) for tail in tails) <= TAIL_BYTES


def test_only_the_end_of_a_followed_log_travels_with_the_outcome(
    api: NodeApi, make_reporter: Callable[[], Reporter], server: Server, tmp_path: Path
) -> None:
    stdout = captured(tmp_path, 1000)
    logs = LogFiles("a", TOKEN, {"stdout": stdout})
    shipper = LogShipper(server)
    shipper.start()
    shipper.follow(logs)
    eventually(lambda: len(api.logs.get(("a", "stdout"), b"")) == 1000)
    shipper.unfollow("a")
    shipper.close()
    with stdout.open("ab") as file:
        file.write(b"the end")
    assert make_reporter().report(unreported(stdout=stdout), logs)
    assert api.outcomes["a"].log_tails["stdout"].offset == 1000
    assert api.logs["a", "stdout"] == stdout.read_bytes()


def test_a_server_that_lost_its_log_gets_it_again(api: NodeApi, server: Server, tmp_path: Path) -> None:
    stdout = captured(tmp_path, 1000)
    logs = LogFiles("a", TOKEN, {"stdout": stdout}, {"stdout": 900})
    logs.ship(server)
    assert api.logs["a", "stdout"] == stdout.read_bytes()


def test_large_files_are_uploaded_when_the_server_asks(
    api: NodeApi, make_reporter: Callable[[], Reporter], tmp_path: Path
) -> None:
    content = b"z" * 500_000
    (tmp_path / "big").write_bytes(content)
    files = (OutputFile(path="big", sha256=sha256(content), size=len(content)),)
    entry = unreported(files, {sha256(content): str(tmp_path / "big")})
    assert make_reporter().report(entry, LogFiles("a", TOKEN, {}))
    assert api.file("a", "big") == content
    assert api.outcomes["a"].phases.upload > 0


def test_while_the_server_is_away_nothing_is_lost(
    api: NodeApi, make_reporter: Callable[[], Reporter], done: list[str], tmp_path: Path
) -> None:
    stdout = captured(tmp_path, 100_000)
    api.away = True
    reporter = make_reporter()
    assert not reporter.report(unreported(stdout=stdout), LogFiles("a", TOKEN, {"stdout": stdout}))
    assert done == []
    api.away = False
    reporter.start()
    eventually(lambda: done == ["a"])
    assert api.outcomes["a"].evidence.exit_code == 0
    assert api.logs["a", "stdout"] == stdout.read_bytes()


def test_the_next_start_reports_what_the_last_one_could_not(
    api: NodeApi, make_reporter: Callable[[], Reporter], done: list[str]
) -> None:
    api.away = True
    make_reporter().report(unreported(), LogFiles("a", TOKEN, {}))
    api.away = False
    second = make_reporter()
    assert [entry.outcome.attempt for entry in second.pending()] == ["a"]
    second.start()
    eventually(lambda: done == ["a"])
    assert second.pending() == []


def test_an_outcome_whose_answer_was_lost_is_settled_by_asking_again(
    api: NodeApi, make_reporter: Callable[[], Reporter], done: list[str]
) -> None:
    api.lose_answer = "/outcome"
    assert make_reporter().report(unreported(), LogFiles("a", TOKEN, {}))
    assert done == ["a"]
    assert api.requests["POST /attempts/a/outcome"] == 2


def test_a_stale_outcome_is_dropped(api: NodeApi, make_reporter: Callable[[], Reporter], done: list[str]) -> None:
    api.stale.add("a")
    reporter = make_reporter()
    assert reporter.report(unreported(), LogFiles("a", TOKEN, {}))
    assert (done, reporter.pending(), api.outcomes) == (["a"], [], {})


def test_files_that_cannot_be_brought_home_are_said_so(
    api: NodeApi, make_reporter: Callable[[], Reporter], done: list[str]
) -> None:
    nowhere = (OutputFile(path="lost", sha256=sha256(b"lost"), size=4),)
    assert make_reporter().report(unreported(nowhere), LogFiles("a", TOKEN, {}))
    fault = api.outcomes["a"].evidence.fault
    assert fault is not None
    assert fault.kind == "upload"
    assert sha256(b"lost") in fault.message
    assert done == ["a"]


def test_a_file_that_the_server_no_longer_takes_stays_behind_and_the_others_come_home(
    api: NodeApi, make_reporter: Callable[[], Reporter], done: list[str], tmp_path: Path
) -> None:
    api.most_bytes = 500_000
    contents = {"big": b"z" * 600_000, "good": b"g" * 400_000}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = tuple(OutputFile(path=name, sha256=sha256(one), size=len(one)) for name, one in contents.items())
    entry = unreported(files, {sha256(one): str(tmp_path / name) for name, one in contents.items()})
    assert make_reporter().report(entry, LogFiles("a", TOKEN, {}))
    outcome = api.outcomes["a"]
    assert outcome.evidence.fault is None
    assert [(one.path, one.size) for one in outcome.evidence.too_large] == [("big", 600_000)]
    assert [one.path for one in outcome.files] == ["good"]
    assert api.file("a", "good") == contents["good"]
    assert done == ["a"]


def test_a_torn_spool_file_is_set_aside(make_reporter: Callable[[], Reporter], tmp_path: Path) -> None:
    reporter = make_reporter()
    (tmp_path / "spool" / "b.json").write_text("{")
    assert reporter.pending() == []
    assert (tmp_path / "spool" / "b.bad").exists()


def test_a_full_disk_costs_no_outcome(
    api: NodeApi, make_reporter: Callable[[], Reporter], done: list[str], tmp_path: Path
) -> None:
    reporter = make_reporter()
    (tmp_path / "spool").rmdir()  # as root nothing else makes it refuse a file
    api.away = True
    assert not reporter.report(unreported(), LogFiles("a", TOKEN, {}))
    api.away = False
    reporter.start()
    eventually(lambda: done == ["a"])
    assert api.outcomes["a"].evidence.exit_code == 0


def test_collected_files_that_vanished_do_not_block_the_spool(
    api: NodeApi, make_reporter: Callable[[], Reporter], done: list[str], tmp_path: Path
) -> None:
    files = (OutputFile(path="big", sha256=sha256(b"big"), size=3),)
    entry = unreported(files, {sha256(b"big"): str(tmp_path / "vanished")})
    assert make_reporter().report(entry, LogFiles("a", TOKEN, {}))
    fault = api.outcomes["a"].evidence.fault
    assert fault is not None
    assert fault.kind == "upload"
    assert done == ["a"]
