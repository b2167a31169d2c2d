"""Verdicts about faults of the grid itself, each brought about for real: they are retried, and every try is kept.

Those about nodes, engines and disks stand with the other faults in ``tests/faults``. At the end stands what the
operator of a node refuses, for it needs a node of its own as well.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid import Task
from tests.support.grids import RunningGrid
from tests.support.images import docker, ensure_test_image
from tests.support.node_api import eventually

pytestmark = pytest.mark.needs("docker", "busybox", "root")

LEASE_SECONDS = 4
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
