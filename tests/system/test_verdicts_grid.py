"""Verdicts about faults of the grid itself, each brought about for real: they are retried, and every try is kept.

At the end stands what the operator of a node refuses, for it needs a node of its own as well.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid import Task
from tests.support.grids import RunningGrid
from tests.support.images import docker, ensure_test_image
from tests.support.node_api import eventually
from tests.support.private_engine import PrivateEngine

pytestmark = pytest.mark.needs("docker", "busybox", "root")

LEASE_SECONDS = 4
WAITS = ("sh", "-c", "echo ready; sleep 600")
LARGE = 100_000
"""Bytes of a file that is too large to travel within the order."""
MOST_BYTES = 200_000
"""The most that the server takes of one file."""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGrid]:
    """A grid without a node: each test adds its own, with a tag by which only its own tasks go there."""
    folder = tmp_path_factory.mktemp("faulty")
    with RunningGrid(
        folder, node=False, lease_seconds=LEASE_SECONDS, max_blob_bytes=MOST_BYTES, run_grace_seconds=2
    ) as running:
        yield running


@pytest.fixture(scope="module")
def odd_image() -> Iterator[str]:
    """An image that engines take, and cannot run."""
    image = "grid-test-odd:local"
    docker("build", "--quiet", "--tag", image, "-", given=b'FROM busybox:local\nVOLUME ["/proc"]\n')
    yield image
    docker("rmi", image)


@pytest.fixture(scope="module")
def sound(faulty: RunningGrid, odd_image: str) -> str:
    """The tag of a node with nothing wrong; it has known the odd image from its start."""
    faulty.add_node("sound", "--tags", "sound")
    return "sound"


def retried(task: Task, verdict: str, times: int, timeout: float = 90.0) -> str:
    """The reason of a task that was tried so many times, each of which ended with ``verdict``."""
    result = task.wait(timeout)
    attempts = task.attempts()
    assert [(attempt.verdict, attempt.verdict_class) for attempt in attempts] == [(verdict, "infrastructure")] * times
    assert [attempt.number for attempt in attempts] == list(range(1, times + 1))
    assert (result.verdict, result.verdict_class) == (verdict, "infrastructure")
    assert result.reason == attempts[-1].reason
    assert task.state == "failed"
    return result.reason


def then_succeeded(task: Task, *verdicts: str, timeout: float = 90.0) -> list[str]:
    """The reasons of the tries before the last one, that ended with ``verdicts``."""
    result = task.wait(timeout)
    attempts = task.attempts()
    assert [attempt.verdict for attempt in attempts] == [*verdicts, "succeeded"]
    assert result.verdict == "succeeded"
    return [attempt.reason for attempt in attempts[:-1]]


def runs_for_the(task: Task, number: int) -> None:
    """Wait until the attempt of this number runs."""
    eventually(lambda: task.refresh().view.attempts == number and task.state == "running", 30)


def blob(grid: RunningGrid, content: bytes) -> Path:
    """Where the server's store has this content."""
    sha256 = hashlib.sha256(content).hexdigest()
    return grid.directory / "blobs" / sha256[:2] / sha256[2:]


def test_inputs_and_results_that_are_lost_on_their_way(faulty: RunningGrid, sound: str, odd_image: str) -> None:
    """Three tasks at a time, for each of them is tried four times."""
    before = faulty.submit("sleep", "1", requires=[sound])
    gone, bad = b"g" * LARGE, b"b" * LARGE
    missing = faulty.submit("cat", "in", files={"in": gone}, after=[before.id], requires=[sound])
    broken = faulty.submit("cat", "in", files={"in": bad}, after=[before.id], requires=[sound])
    blob(faulty, gone).unlink()
    blob(faulty, bad).write_bytes(b"w" * LARGE)
    refused = faulty.submit("true", image=odd_image, requires=[sound])
    reason = retried(missing, "input_missing", 4)
    assert reason.startswith('an input file is not in the store any more: "in": the server has no blob ')
    assert "submit the task again" in missing.result().advice
    reason = retried(broken, "staging", 4)
    assert reason.startswith('the node could not prepare the task\'s folder: "in": cannot fetch blob ')
    reason = retried(refused, "runtime_error", 4)
    assert reason.startswith("the container engine failed: ")
    assert "/proc" in reason


def test_a_file_that_is_larger_than_the_server_takes_stays_behind_and_nothing_else(
    faulty: RunningGrid, sound: str
) -> None:
    script = "echo 1 > small; head -c 300000 /dev/urandom > large; echo done"
    retry = {"attempts": 3, "on": ["user"]}
    task = faulty.submit("sh", "-c", script, stdout="out", collect=[{"glob": "*"}], requires=[sound], retry=retry)
    result = task.wait(60)
    assert (result.verdict, result.verdict_class) == ("file_too_large", "user")
    assert result.reason == ('the program exited with 0, but "large" has 293K; the most that is taken here is 195.3K')
    assert "compress or split it" in result.advice
    assert result.files["small"].read_text() == "1\n"
    assert result.files["out"].read_text() == "done\n"
    assert set(result.files) == {"small", "out"}
    assert len(task.attempts()) == 1


def test_a_result_that_vanished_on_its_way_home(faulty: RunningGrid, sound: str) -> None:
    script = f"echo ready; sleep 1; head -c {LARGE} /dev/urandom > large"
    task = faulty.submit("sh", "-c", script, collect=[{"glob": "large"}], requires=[sound])
    eventually(lambda: "ready" in "".join(task.logs()))
    [attempt] = task.attempts()
    copy = faulty.workers["sound"].directory / "attempts" / attempt.id / "collected" / "000000"
    web = faulty.find("web")
    assert web is not None
    os.kill(web, signal.SIGSTOP)
    try:
        eventually(lambda: copy.exists() and copy.stat().st_size == LARGE)
        copy.unlink()
    finally:
        os.kill(web, signal.SIGCONT)
    [reason] = then_succeeded(task, "upload")
    assert reason.startswith("the node could not bring the results home: ")


def test_a_lost_node(faulty: RunningGrid) -> None:
    first = faulty.add_node("lost-1", "--tags", "lost")
    task = faulty.submit(*WAITS, requires=["lost"])
    eventually(lambda: "ready" in "".join(task.logs()))
    first.kill()
    faulty.add_node("lost-2", "--tags", "lost")
    runs_for_the(task, 2)
    assert task.node == "lost-2"
    eventually(lambda: "ready" in "".join(task.logs()))
    task.cancel()
    task.wait(30)
    lost, cancelled = task.attempts()
    assert (lost.verdict, lost.verdict_class, lost.node) == ("node_lost", "infrastructure", "lost-1")
    assert lost.reason == f"node lost-1 was not heard of for {LEASE_SECONDS} s while the task was on it"
    assert (cancelled.verdict, cancelled.node) == ("cancelled", "lost-2")


def test_a_task_under_which_three_nodes_were_lost_is_poison(faulty: RunningGrid) -> None:
    names = [f"doomed-{number}" for number in (1, 2, 3)]
    workers = {name: faulty.add_node(name, "--tags", "doomed", wait=False) for name in names}
    eventually(lambda: all(faulty.node_is(name, ready=True) for name in names), 60)
    task = faulty.submit(*WAITS, requires=["doomed"])
    for number in (1, 2, 3):
        runs_for_the(task, number)
        workers[task.node].kill()
    result = task.wait(30)
    assert (result.verdict, result.verdict_class) == ("poison", "infrastructure")
    last = task.attempts()[-1]
    assert result.reason == f"3 nodes were lost under the task; the last time: {last.reason}"
    assert sorted(attempt.node for attempt in task.attempts()) == names, "each time on another node"
    assert {attempt.verdict for attempt in task.attempts()} == {"node_lost"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own for a node, with nothing on it."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    """Leave no room on it, by making it smaller; once more when the node has just written something."""

    def shrunk() -> bool:
        found = os.statvfs(disk)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        return subprocess.run(["mount", "-o", f"remount,size={used}", str(disk)], check=False).returncode == 0

    eventually(shrunk, 10)


def test_a_node_with_a_full_disk_says_so_and_the_task_goes_elsewhere(faulty: RunningGrid, disk: Path) -> None:
    worker = faulty.add_node("full", "--tags", "disk", directory=disk / "node")
    # Meanwhile the node takes its first look at the disk; the next comes too late to keep the task away.
    assert faulty.run("true", requires=["disk"]).verdict == "succeeded"
    fill(disk)
    task = faulty.submit("echo", "hello", requires=["disk"])
    eventually(lambda: "node_disk" in [attempt.verdict for attempt in task.attempts()], 30)
    faulty.add_node("roomy", "--tags", "disk")
    [reason] = then_succeeded(task, "node_disk")
    assert reason.startswith("the node's disk is full: cannot ")
    assert task.node == "roomy"
    eventually(lambda: faulty.node_is("full", ready=False), 30)
    assert "are free on the disk of" in faulty.client.node("full").not_ready_reason
    worker.kill()


@pytest.mark.needs("dockerd")
def test_an_engine_that_is_killed_under_a_task(faulty: RunningGrid) -> None:
    with PrivateEngine() as engine:
        worker = faulty.add_node("shaky", "--tags", "shaky", environment={"DOCKER_HOST": engine.address})
        task = faulty.submit("sh", "-c", "echo ready; sleep 5; echo over", requires=["shaky"], stdout="out")
        eventually(lambda: "ready" in "".join(task.logs()), 30)
        engine.stop(signal.SIGKILL)
        engine.start()
        [reason] = then_succeeded(task, "engine_restarted")
        assert reason.startswith("the container engine was restarted under the task: ")
        assert task.result().files["out"].read_text() == "ready\nover\n"
        worker.kill()


@pytest.mark.needs("dockerd")
def test_an_engine_that_hangs_costs_an_attempt_its_time_and_no_more(faulty: RunningGrid) -> None:
    with PrivateEngine() as engine:
        worker = faulty.add_node("stuck", "--tags", "stuck", environment={"DOCKER_HOST": engine.address})
        task = faulty.submit("sh", "-c", "echo ready; sleep 3", requires=["stuck"], limits={"time": "6s"})
        eventually(lambda: "ready" in "".join(task.logs()))
        with engine.hung():
            faulty.add_node("smooth", "--tags", "stuck")
            [reason] = then_succeeded(task, "runtime_error")
            assert reason == "node stuck did not finish executing in the time it is given for that"
            assert task.node == "smooth"
            worker.kill()


def test_an_image_that_the_node_may_not_run(faulty: RunningGrid) -> None:
    image = ensure_test_image()
    faulty.add_node("picky", "--tags", "picky", "--images", "busybox:*,python:3.*")
    allowed = faulty.submit("true", requires=["picky"])
    refused = faulty.submit("true", requires=["picky"], image=image)
    assert allowed.wait(60).verdict == "succeeded"
    result = refused.wait(60)
    assert (result.verdict, result.verdict_class) == ("image_refused", "user")
    words = "is not among the images that this node may run"
    assert result.reason == f"the image is not allowed here: {image} {words}"
    assert result.advice == "ask the operator which images are"
    assert len(refused.attempts()) == 1
