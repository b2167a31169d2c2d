"""The node's HTTP client against a small real server: answers, refusals, and connections that are cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.server import Server
from tasks.errors import Conflict, NotAllowed, NotFound, Stale, Unavailable
from tasks.order import AttemptPulse, Capacity, Facts, Heartbeat, Hello
from tasks.outcome import Evidence, Outcome, OutputFile
from tasks.states import Phase
from tests.support.node_api import NodeApi, order, serving, sha256

HELLO = Hello(session="s1", facts=Facts(capacity=Capacity(cpus=1, memory=1)))


@pytest.fixture
def api() -> NodeApi:
    return NodeApi(orders={"a1": order("a1", "true")})


@pytest.fixture
def server(api: NodeApi) -> Iterator[Server]:
    with serving(api) as address:
        server = Server(address, api.token)
        yield server
        server.close()


def outcome(attempt: str = "a1", files: tuple[OutputFile, ...] = ()) -> Outcome:
    return Outcome(attempt=attempt, token="t", evidence=Evidence(exit_code=0), files=files)


def test_a_node_joins_takes_an_attempt_and_reports_it(api: NodeApi, server: Server) -> None:
    welcome = server.hello(HELLO)
    taken = server.take("a1", "s1", "nonce")
    reply = server.heartbeat(
        Heartbeat(session="s1", attempts=(AttemptPulse(attempt="a1", token=taken.token, phase=Phase.STAGING),)), 1.0
    )
    assert server.report(outcome()) == ()
    assert (welcome.queue, taken, reply.stale) == ("node.n1", api.orders["a1"], ())
    assert api.outcomes["a1"].evidence.exit_code == 0


def test_a_wrong_token_is_not_allowed(api: NodeApi, server: Server) -> None:
    api.token = "another"
    with pytest.raises(NotAllowed, match="not known"):
        server.hello(HELLO)


def test_a_forged_message_is_stale(server: Server) -> None:
    server.hello(HELLO)
    with pytest.raises(Stale):
        server.take("a1", "s1", "guessed")


def test_a_name_that_another_session_took_is_a_conflict(api: NodeApi, server: Server) -> None:
    api.session = "s2"
    with pytest.raises(Conflict, match="another session"):
        server.heartbeat(Heartbeat(session="s1"), 1.0)


def test_a_lost_answer_is_asked_for_again(api: NodeApi, server: Server) -> None:
    server.hello(HELLO)
    api.lose_answer = "/order"
    assert server.take("a1", "s1", "nonce").attempt == "a1"
    assert api.taken["a1"] == 2


def test_a_server_that_is_away_is_unavailable(api: NodeApi, server: Server) -> None:
    api.away = True
    with pytest.raises(Unavailable, match="no grid answers at http"):
        server.hello(HELLO)


def test_missing_blobs_are_named_and_uploaded(api: NodeApi, server: Server, tmp_path: Path) -> None:
    content = b"x" * 1_000_000
    (tmp_path / "big").write_bytes(content)
    wanted = outcome(files=(OutputFile(path="big", sha256=sha256(content), size=len(content)),))
    assert server.report(wanted) == (sha256(content),)
    server.put_blob("a1", "t", sha256(content), tmp_path / "big")
    assert server.report(wanted) == ()
    assert api.file("a1", "big") == content


def test_an_outcome_of_an_ended_attempt_is_stale(api: NodeApi, server: Server) -> None:
    api.stale.add("a1")
    with pytest.raises(Stale):
        server.report(outcome())


def test_a_blob_comes_in_chunks(api: NodeApi, server: Server) -> None:
    api.blobs["ab"] = b"y" * 600_000
    with server.blob("a1", "t", "ab") as chunks:
        assert b"".join(chunks) == api.blobs["ab"]


def test_a_blob_that_is_not_there_is_not_found(server: Server) -> None:
    with pytest.raises(NotFound), server.blob("a1", "t", "ab"):
        pytest.fail("nothing can be read")


def test_a_gap_in_a_log_is_a_conflict(api: NodeApi, server: Server) -> None:
    assert server.send_log("a1", "t", "stdout", 0, b"one") == 3
    assert server.send_log("a1", "t", "stdout", 1, b"ne two") == 7
    with pytest.raises(Conflict):
        server.send_log("a1", "t", "stdout", 100, b"far")
    assert api.logs["a1", "stdout"] == b"one two"
