"""The engine is stopped or killed under a running program: that is never the program's fault."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.runtimes import Exit, Job, Stop
from nodes.runtimes.docker import DockerRuntime
from tasks.errors import NodeFault
from tests.conftest import needs
from tests.support.jobs import NODE, make_job
from tests.support.private_engine import PrivateEngine

pytestmark = [
    needs("docker", "busybox", "root", "dockerd"),
    pytest.mark.timeout(240),
    # The SDK leaves a socket to the garbage collector whenever it cannot connect.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SCRIPT = "echo begun >> log; echo out; for i in $(seq 60); do sleep 0.1; done; echo end; exit 6"


class Running:
    """A job that runs in a thread; what comes of it is in ``ends`` or ``faults``."""

    def __init__(self, runtime: DockerRuntime, job: Job) -> None:
        self.ends: list[Exit] = []
        self.faults: list[NodeFault] = []
        self._runtime, self._job = runtime, job
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        deadline = time.monotonic() + 30
        while not (job.stdout.exists() and job.stdout.stat().st_size):
            assert time.monotonic() < deadline, self.faults
            time.sleep(0.02)

    def join(self, seconds: float = 60) -> None:
        """Wait for what comes of it."""
        self._thread.join(seconds)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        try:
            self.ends.append(self._runtime.run(self._job, Stop()))
        except NodeFault as fault:
            self.faults.append(fault)


@pytest.fixture(autouse=True)
def collect_what_the_sdk_left() -> Iterator[None]:
    """Here, where nobody minds, and not in the middle of another test."""
    yield
    gc.collect()


@pytest.fixture
def private() -> Iterator[PrivateEngine]:
    """An engine that ends its containers with itself."""
    with PrivateEngine() as engine:
        yield engine


def test_stop_and_death_of_the_engine_are_faults_of_the_node(private: PrivateEngine, tmp_path: Path) -> None:
    runtime = DockerRuntime(f"{NODE}-private", private.address)

    stopped = Running(runtime, make_job(tmp_path, "sh", "-c", SCRIPT))
    private.stop(signal.SIGTERM)
    private.start()
    stopped.join()
    assert [fault.kind for fault in stopped.faults] == ["engine_restarted"]

    killed = Running(runtime, make_job(tmp_path, "sh", "-c", SCRIPT))
    private.stop(signal.SIGKILL)
    private.start()
    killed.join()
    assert [fault.kind for fault in killed.faults] == ["engine_restarted"]

    assert runtime.run(make_job(tmp_path, "true"), Stop()).exit_code == 0
    runtime.reap(())
    runtime.close()


def test_with_live_restore_the_program_goes_on_and_so_do_we(tmp_path: Path) -> None:
    with PrivateEngine(live_restore=True) as engine:
        runtime = DockerRuntime(f"{NODE}-live", engine.address)
        job = make_job(tmp_path, "sh", "-c", SCRIPT)
        running = Running(runtime, job)
        engine.stop(signal.SIGKILL)
        engine.start()
        running.join()
        assert not running.faults
        assert running.ends[0].exit_code == 6
        assert (job.workspace / "log").read_text() == "begun\n"
        assert job.stdout.read_text() == "out\nend\n"
        runtime.reap(())
        runtime.close()
