"""Attempts on a node with the real engine, from the order to the report, and whatever may come in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nodes.attempt import AttemptFolder, Running
from nodes.logs import LogFiles
from tasks.states import StopCause
from tests.support.agents import Node, new_name, node
from tests.support.node_api import NodeApi, eventually, order, sha256

# Containers are named for their attempts, whatever node they are of.
A1, A2 = new_name(), new_name()

pytestmark = pytest.mark.needs("docker", "busybox", "root")


@pytest.fixture
def api() -> NodeApi:
    return NodeApi(node=new_name())


@pytest.fixture
def here(api: NodeApi, tmp_path: Path) -> Iterator[Node]:
    with node(api, tmp_path / "node") as made:
        yield made


def give(api: NodeApi, *args: str, attempt: str = A1, **changes: object) -> str:
    """The server has an attempt for the node; gives its id."""
    made = order(attempt, *args, **changes)
    api.orders[attempt] = made
    return attempt


def sh(script: str) -> tuple[str, str, str]:
    return ("sh", "-c", script)


def test_a_task_runs_and_its_files_come_home(api: NodeApi, here: Node) -> None:
    attempt = give(
        api,
        *sh("tr a-z A-Z < in/word; echo fine >&2; echo made > out.txt; env > env.txt"),
        files={"in/word": b"hello\n"},
        spec={"stdout": "said.txt", "collect": [{"glob": "*.txt"}], "environment": {"COLOUR": "red"}},
        secrets={"PASSWORD": "hush"},
    )
    said = here.agent.work(attempt, "nonce")
    outcome = api.outcomes[attempt]
    assert said == {"exit_code": 0, "fault": None, "stopped": None, "reported": True}
    assert api.file(attempt, "said.txt") == b"HELLO\n"
    assert api.file(attempt, "out.txt") == b"made\n"
    assert {b"COLOUR=red", b"PASSWORD=hush"} <= set(api.file(attempt, "env.txt").splitlines())
    assert api.logs[attempt, "stderr"] == b"fine\n"
    assert outcome.image_digest.startswith("sha256:")
    assert outcome.phases.run >= outcome.usage.wall_seconds > 0
    eventually(lambda: here.left_behind() == [])


def test_a_failing_task_still_brings_its_files(api: NodeApi, here: Node) -> None:
    attempt = give(api, *sh("echo half > part; exit 3"), spec={"collect": [{"glob": "part"}]})
    here.agent.work(attempt, "nonce")
    assert api.outcomes[attempt].evidence.exit_code == 3
    assert api.file(attempt, "part") == b"half\n"


def test_large_files_go_through_the_cache_and_the_store(api: NodeApi, here: Node) -> None:
    content = bytes(range(256)) * 4096
    api.blobs[sha256(content)] = content
    for attempt in (A1, A2):
        made = order(attempt, "cp", "big", "copy", files={"big": content}, spec={"collect": [{"glob": "copy"}]})
        api.orders[attempt] = made.model_copy(update={"inline": {}})
        here.agent.work(attempt, "nonce")
        assert api.file(attempt, "copy") == content
    downloads = [count for path, count in api.requests.items() if path.startswith("GET") and "/blobs/" in path]
    assert downloads == [1]


def test_an_input_that_the_server_lost_is_a_fault(api: NodeApi, here: Node) -> None:
    made = order(A1, "true", files={"gone": b"x"})
    api.orders[A1] = made.model_copy(update={"inline": {}})
    here.agent.work(A1, "nonce")
    fault = api.outcomes[A1].evidence.fault
    assert fault is not None
    assert fault.kind == "input_missing"


def test_inputs_beyond_the_tasks_own_limit_are_its_fault(api: NodeApi, here: Node) -> None:
    attempt = give(api, "true", files={"big": b"x" * 3_000_000}, limits={"storage": "1M", "files": 100})
    here.agent.work(attempt, "nonce")
    evidence = api.outcomes[attempt].evidence
    assert (evidence.storage_full, evidence.exit_code, evidence.fault) == (True, None, None)


def test_a_full_workspace_is_evidence(api: NodeApi, here: Node) -> None:
    attempt = give(api, *sh("cat /dev/zero > fill"), limits={"storage": "2M", "files": 100})
    here.agent.work(attempt, "nonce")
    outcome = api.outcomes[attempt]
    assert outcome.evidence.storage_full
    assert (outcome.usage.storage_peak_bytes or 0) > 1_900_000


def test_a_workspace_that_was_full_for_a_while_is_evidence_too(api: NodeApi, here: Node) -> None:
    script = "dd if=/dev/zero of=a bs=1k count=1500; dd if=/dev/zero of=b bs=1k count=1500; sleep 1.2; rm a b"
    attempt = give(api, *sh(script), limits={"storage": "2M", "files": 100})
    here.agent.work(attempt, "nonce")
    outcome = api.outcomes[attempt]
    assert outcome.evidence.storage_full
    assert (outcome.usage.storage_peak_bytes or 0) > 1_900_000


def test_an_unknown_image_is_said_so(api: NodeApi, here: Node) -> None:
    attempt = give(api, "true", spec={"image": "localhost:1/nobody/has:this"})
    here.agent.work(attempt, "nonce")
    fault = api.outcomes[attempt].evidence.fault
    assert fault is not None
    assert fault.kind in {"image_pull", "image_not_found"}


def test_a_cancel_before_the_program_begins_starts_nothing(
    api: NodeApi, here: Node, in_background: Callable[..., threading.Thread]
) -> None:
    made = order(A1, "true", files={"big": b"x" * 100_000})
    api.orders[A1] = made.model_copy(update={"inline": {}})
    api.blobs[sha256(b"x" * 100_000)] = b"x" * 100_000
    api.hold = "/blobs/"
    in_background(here.agent.work, A1, "nonce")
    eventually(lambda: api.held)
    assert here.agent.cancel(A1, "no need any more")
    api.hold = ""
    eventually(lambda: A1 in api.outcomes)
    evidence = api.outcomes[A1].evidence
    assert (evidence.stopped, evidence.exit_code) == (StopCause.CANCELLED, None)
    assert here.runtime.reap(()) == ()


def test_a_name_that_is_no_id_never_becomes_an_address(api: NodeApi, here: Node) -> None:
    assert "ignored" in here.agent.work("../../tasks", "nonce")
    assert not [path for path in api.requests if "tasks" in path]


def test_a_message_that_comes_five_times_runs_once(api: NodeApi, here: Node) -> None:
    attempt = give(api, *sh("echo ran; sleep 0.5"))
    with ThreadPoolExecutor(5) as pool:
        said = [one.result() for one in [pool.submit(here.agent.work, attempt, "nonce") for _ in range(5)]]
    assert sorted("ignored" in one for one in said) == [False, True, True, True, True]
    assert (api.taken[attempt], api.logs[attempt, "stdout"]) == (1, b"ran\n")


def test_a_forged_message_does_nothing(api: NodeApi, here: Node) -> None:
    attempt = give(api, "true")
    assert "ignored" in here.agent.work(attempt, "guessed")
    assert "ignored" in here.agent.work("unheard-of", "nonce")
    assert (api.outcomes, here.left_behind()) == ({}, [])


def test_orders_whose_messages_did_not_come_are_taken_up_when_the_server_names_them(api: NodeApi, here: Node) -> None:
    attempts = [give(api, *sh("echo ran"), attempt=f"unread-{number}") for number in range(2)]
    api.waiting = [*attempts, "unheard-of"]
    eventually(lambda: set(api.outcomes) == set(attempts))
    assert [(api.taken[one], api.logs[one, "stdout"]) for one in attempts] == [(1, b"ran\n")] * 2
    assert here.unread > 0
    # They are not here any more, and the server names none of them again: nothing else is unread.
    api.waiting.clear()
    beats = len(api.beats)
    eventually(lambda: len(api.beats) >= beats + 2)
    unread = here.unread
    eventually(lambda: len(api.beats) >= beats + 4)
    assert here.unread == unread


def started(api: NodeApi, attempt: str) -> Callable[[], bool]:
    return lambda: b"ready" in api.logs.get((attempt, "stdout"), b"")


@pytest.fixture
def in_background() -> Iterator[Callable[..., threading.Thread]]:
    threads: list[threading.Thread] = []

    def start(work: Callable[..., object], *args: str) -> threading.Thread:
        threads.append(threading.Thread(target=work, args=args))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_live_log_comes_while_the_task_runs(
    api: NodeApi, here: Node, in_background: Callable[..., threading.Thread]
) -> None:
    attempt = give(api, *sh("echo ready; while [ ! -e go ]; do sleep 0.05; done; echo over"))
    in_background(here.agent.work, attempt, "nonce")
    eventually(started(api, attempt))
    assert attempt not in api.outcomes
    (here.config.workspaces / attempt / "task" / "go").touch()
    eventually(lambda: attempt in api.outcomes)
    assert api.logs[attempt, "stdout"] == b"ready\nover\n"


def test_the_server_cancels_by_the_heartbeat(
    api: NodeApi, here: Node, in_background: Callable[..., threading.Thread]
) -> None:
    attempt = give(api, *sh("echo kept > file; echo ready; sleep 60"), spec={"collect": [{"glob": "file"}]})
    in_background(here.agent.work, attempt, "nonce")
    eventually(started(api, attempt))
    api.cancels[attempt] = "changed my mind"
    eventually(lambda: attempt in api.outcomes)
    evidence = api.outcomes[attempt].evidence
    assert (evidence.stopped, evidence.stop_reason) == (StopCause.CANCELLED, "changed my mind")
    assert api.file(attempt, "file") == b"kept\n"


def test_an_attempt_that_is_no_longer_ours_is_ended_and_not_reported(
    api: NodeApi, here: Node, in_background: Callable[..., threading.Thread]
) -> None:
    attempt = give(api, *sh("echo ready; sleep 60"))
    thread = in_background(here.agent.work, attempt, "nonce")
    eventually(started(api, attempt))
    api.stale.add(attempt)
    thread.join(10)
    assert api.outcomes == {}
    assert api.requests[f"POST /attempts/{attempt}/outcome"] == 0
    eventually(lambda: here.left_behind() == [])


def test_a_node_cut_off_for_longer_than_its_lease_ends_its_containers(
    api: NodeApi, here: Node, in_background: Callable[..., threading.Thread]
) -> None:
    api.lease_seconds = 1.0
    api.session = ""  # the server forgets the node, which says hello again and hears of the short lease
    eventually(lambda: len(api.hellos) == 2)
    attempt = give(api, *sh("echo ready; sleep 60"))
    thread = in_background(here.agent.work, attempt, "nonce")
    eventually(started(api, attempt))
    api.away = True
    thread.join(10)
    assert not thread.is_alive()
    api.away = False
    assert api.outcomes == {}
    # The server may not have looked yet, so that the order is still this session's; and its message comes again.
    beats = len(api.beats)
    eventually(lambda: len(api.beats) > beats)
    assert "ignored" in here.agent.work(attempt, "nonce")
    assert api.taken[attempt] == 1
    eventually(lambda: here.left_behind() == [])


def test_an_outcome_waits_for_the_server_and_its_lease_is_kept(
    api: NodeApi, here: Node, in_background: Callable[..., threading.Thread]
) -> None:
    attempt = give(api, *sh("echo ready; while [ ! -e go ]; do sleep 0.05; done; exit 4"))
    in_background(here.agent.work, attempt, "nonce")
    eventually(started(api, attempt))
    api.away = True
    (here.config.workspaces / attempt / "task" / "go").touch()
    eventually(lambda: list(here.config.spool.glob("*.json")))
    api.away = False
    eventually(lambda: attempt in api.outcomes)
    assert api.outcomes[attempt].evidence.exit_code == 4
    eventually(lambda: here.left_behind() == [])


def test_another_session_under_our_name_stops_everything(
    api: NodeApi, here: Node, in_background: Callable[..., threading.Thread]
) -> None:
    attempt = give(api, *sh("echo ready; sleep 60"))
    thread = in_background(here.agent.work, attempt, "nonce")
    eventually(started(api, attempt))
    api.session = "another"
    thread.join(10)
    assert not thread.is_alive()
    assert "another" in here.fatal[0]
    assert api.outcomes == {}


def test_an_adopted_attempt_that_fails_early_gives_its_cores_back(api: NodeApi, here: Node) -> None:
    order_without_image = order(A1, "true", spec={"image": None})
    folder = AttemptFolder(here.config.attempts / A1)
    folder.keep(order_without_image)
    folder.keep_cores((0,))
    running = Running(order_without_image, folder, 0.0)
    here.runner.adopt(running)
    assert 0 not in here.cores.free
    here.runner.run(running, LogFiles(A1, order_without_image.token, {}))
    assert 0 in here.cores.free
