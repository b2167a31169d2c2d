"""A node of a soak whose containers are simulated: the real agent, worker and runner, over the product's fake runtime.

Two processors run a few containers a second, and a soak wants thousands of tasks. Such a node stands for a machine
without a disk: whatever it had is gone when it is started again. What it runs it notes in a file of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import time
from pathlib import Path

from soak_plan import IMAGE, LARGE_BYTES

from nodes import journal
from nodes.agent import Agent
from nodes.config import NodeConfig, OnStop
from nodes.cores import Cores
from nodes.facts import gather
from nodes.health import Health
from nodes.images import Images
from nodes.lock import NodeLock
from nodes.runner import Parts, Runner
from nodes.runtimes import Exit, Job, Stop
from nodes.runtimes.fake import FakeImages, FakeRuntime
from nodes.server import Server
from nodes.start import NOT_WANTED
from nodes.worker import Worker
from nodes.workspace import WorkspaceKind
from tasks.outcome import Usage
from tasks.states import StopCause

KILLED = 137


class Simulation:
    """Does what the scripts of ``soak_plan.KINDS`` would do; each beginning and end is a line of ``notes``."""

    def __init__(self, notes: Path) -> None:
        self._file = notes.open("a", buffering=1)
        self._file.write(json.dumps({"what": "boot", "at": time.time()}) + "\n")

    def run(self, job: Job, stop: Stop) -> Exit:
        """Be the program of a job."""
        self._note("start", job)
        try:
            return self._program(job, stop)
        finally:
            self._note("die", job)

    def _program(self, job: Job, stop: Stop) -> Exit:
        script = job.args[-1]
        job.stdout.touch()
        job.stderr.touch()
        if "tail /dev/zero" in script:
            return Exit(exit_code=KILLED, usage=Usage(), oom_kills=1)
        if "in.txt" in script:
            content = (job.workspace / "in.txt").read_bytes()
            (job.workspace / "out.txt").write_bytes(content)
            job.stdout.write_bytes(content)
        if "/dev/urandom" in script:
            (job.workspace / "out").write_bytes(os.urandom(LARGE_BYTES))
        pause = _number(r"sleep ([0-9.]+)", script)
        limit = job.limits.time or pause
        if stop.wait(min(pause, limit)):
            return Exit(exit_code=KILLED, usage=Usage(), stopped=stop.cause, stop_reason=stop.reason)
        if pause > limit and stop.request(StopCause.TIME_LIMIT, "its time is over"):
            return Exit(exit_code=KILLED, usage=Usage(), stopped=stop.cause, stop_reason=stop.reason)
        return Exit(exit_code=int(_number(r"exit ([0-9]+)", script)), usage=Usage(wall_seconds=min(pause, limit)))

    def _note(self, what: str, job: Job) -> None:
        said = {"what": what, "attempt": job.attempt, "task": job.task, "at": time.time()}
        self._file.write(json.dumps(said) + "\n")


def _number(pattern: str, script: str) -> float:
    found = re.search(pattern, script)
    return float(found[1]) if found else 0.0


def serve(config: NodeConfig, notes: Path) -> int:
    """Run the node until it is asked to end."""
    shutil.rmtree(config.directory, ignore_errors=True)
    lock = NodeLock(config.directory)
    journal.set_up()
    server = Server(config.server, config.token)
    runtime = FakeRuntime(Simulation(notes).run)
    images = Images(FakeImages(there=[IMAGE]), pull=False)
    # It says that it holds tasks to their limits, or it would be given none.
    health = Health(lambda: gather(config, runtime, WorkspaceKind.LOOP, images.references), config.directory)
    parts = Parts(runtime=runtime, images=images, cores=Cores(), workspace_kind=WorkspaceKind.PLAIN, health=health)
    agent = Agent(config, server, Runner(config, server, parts), health, lambda reason: worker.leave(NOT_WANTED))
    worker = Worker(agent, config.patience_seconds, server.close)
    try:
        return worker.serve(agent.join(), health.facts().capacity.slots)
    finally:
        lock.release()


def main() -> int:
    """The node that the arguments describe; its token is in the environment."""
    parser = argparse.ArgumentParser()
    for name in ("--server", "--name", "--dir", "--notes"):
        parser.add_argument(name, required=True)
    parser.add_argument("--slots", type=int, required=True)
    given = parser.parse_args()
    config = NodeConfig(
        server=given.server,
        name=given.name,
        directory=Path(given.dir),
        token=os.environ["GRID_TOKEN"],
        slots=given.slots,
        on_stop=OnStop.RETURN,
    )
    return serve(config, Path(given.notes))


if __name__ == "__main__":
    raise SystemExit(main())
