"""A node in this process, with the real runtime and a small server, for tests of what it does with attempts."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodes import workspace
from nodes.agent import Agent
from nodes.config import NodeConfig
from nodes.cores import Cores
from nodes.facts import gather
from nodes.health import Health
from nodes.images import Images
from nodes.runner import Parts, Runner
from nodes.runtimes.docker import DockerRuntime
from nodes.runtimes.docker.images import DockerImages
from nodes.server import Server
from tests.support.node_api import NodeApi, serving


class Node:
    """A node as a test sees it: an agent that can be joined, told to work, and shut down."""

    def __init__(self, address: str, api: NodeApi, directory: Path) -> None:
        self.config = NodeConfig(server=address, name=api.node, directory=directory, token=api.token)
        self.runtime = DockerRuntime(self.config.identity)
        self.server = Server(address, api.token, timeout_seconds=5.0)
        self.fatal: list[str] = []
        self.unread = 0
        self.cores = Cores()
        kind = workspace.probe(self.config.workspaces)
        health = Health(lambda: gather(self.config, self.runtime, kind), directory)
        parts = Parts(
            runtime=self.runtime,
            images=Images(DockerImages(self.runtime.engine)),
            cores=self.cores,
            workspace_kind=kind,
            health=health,
        )
        self.runner = Runner(self.config, self.server, parts)
        self.agent = Agent(self.config, self.server, self.runner, health, self.fatal.append, self._count_unread)

    def close(self) -> None:
        """End it as SIGTERM does, and remove what it has left in the engine."""
        self.agent.shut_down(5.0)
        self.runtime.reap(())
        self.runtime.close()
        self.server.close()

    def _count_unread(self) -> None:
        self.unread += 1

    def left_behind(self) -> list[Path]:
        """What is on the disk of attempts that have ended."""
        folders = (self.config.attempts, self.config.workspaces, self.config.spool)
        return [path for folder in folders for path in folder.glob("[!.]*")]


def new_name() -> str:
    """A name that no other node on this machine has."""
    return f"test-{secrets.token_hex(4)}"


@contextmanager
def node(api: NodeApi, directory: Path) -> Iterator[Node]:
    """A node that has joined ``api``."""
    with serving(api) as address:
        made = Node(address, api, directory)
        try:
            made.agent.join()
            yield made
        finally:
            made.close()
