"""A real node but for its containers: the runtime ends each job at once, so that tasks can come by the thousand.

Run by ``load_memory``: ``load_node.py SERVER FOLDER SLOTS``, its token in ``GRID_TOKEN``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection
from pathlib import Path

from nodes import journal
from nodes.agent import Agent
from nodes.config import NodeConfig
from nodes.cores import Cores
from nodes.facts import gather
from nodes.health import Health
from nodes.images import Images
from nodes.runner import Parts, Runner
from nodes.runtimes import Capabilities, Exit, Job, Stop
from nodes.runtimes.fake import FakeImages, succeed
from nodes.server import Server
from nodes.worker import Worker
from nodes.workspace import WorkspaceKind

ENFORCED = frozenset({"time", "output", "network", "memory", "swap", "cpus", "pids", "cpu_time", "storage", "files"})


class Instant:
    """A runtime without containers and without a memory, whose own growth would be taken for the agent's."""

    def probe(self) -> Capabilities:
        """Everything is said to be enforced."""
        return Capabilities(runtime="docker", enforces=ENFORCED, details={"engine": "none"})

    def run(self, job: Job, stop: Stop) -> Exit:
        """End the job well; ``print``, MB a second, seconds and MB of a file are the arguments of one that is large."""
        if job.args[0] == "print":
            _print(job, *map(int, job.args[1:]))
        return succeed(job, stop)

    def kill(self, attempt: str) -> None:
        """Nothing runs."""

    def reap(self, keep: Collection[str]) -> tuple[str, ...]:
        """Nothing is left."""
        return ()


def _print(job: Job, rate: int, seconds: int, file: int) -> None:
    """Write a file into the workspace, and then so much a second into the log; of lines, none of which is long."""
    block = b"".join(
        (b"%07d a line as programs print them" % number).ljust(63, b".") + b"\n" for number in range(2**14)
    )
    with (job.workspace / "large.bin").open("wb") as out:
        for number in range(file):
            out.write(number.to_bytes(8, "big") + os.urandom(2**20 - 8))
    began = time.monotonic()
    with job.stdout.open("ab", buffering=0) as log:
        for number in range(rate * seconds):
            log.write(block)
            time.sleep(max(0.0, began + number / rate - time.monotonic()))


def main(server_address: str, folder: str, slots: str) -> int:
    """Work until SIGTERM."""
    config = NodeConfig(
        server=server_address,
        name="load",
        directory=Path(folder),
        token=os.environ["GRID_TOKEN"],
        slots=int(slots),
        cpus=64,
        memory_bytes=256 * 1024**3,
    )
    config.directory.mkdir(parents=True, exist_ok=True)
    journal.set_up()
    server = Server(config.server, config.token)
    runtime, kind, source = Instant(), WorkspaceKind.PLAIN, FakeImages(there=("busybox",))
    images = Images(source, allowed=None, pull=False)
    health = Health(lambda: gather(config, runtime, kind, images.references), config.directory)
    parts = Parts(runtime=runtime, images=images, cores=Cores(), workspace_kind=kind, health=health)
    agent = Agent(config, server, Runner(config, server, parts), health, lambda reason: worker.leave(1))
    worker = Worker(agent, config.patience_seconds, lambda: None)
    return worker.serve(agent.join(), health.facts().capacity.slots)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
