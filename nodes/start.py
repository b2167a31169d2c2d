"""Puts a node together from its parts, and runs it to its end."""

from __future__ import annotations

import logging

from nodes import journal, workspace
from nodes.agent import Agent
from nodes.config import NodeConfig
from nodes.cores import Cores
from nodes.facts import gather
from nodes.health import Health
from nodes.images import Images
from nodes.journal import event
from nodes.lock import NodeLock
from nodes.reach import Reach
from nodes.runner import Parts, Runner
from nodes.runtimes.docker import DockerRuntime
from nodes.runtimes.docker.images import DockerImages
from nodes.server import Server
from nodes.worker import Worker
from tasks.errors import NodeFault, Refused

FAILED = 1
# A supervisor had better not start it again: somebody else works under this name, or the server does not want it.
NOT_WANTED = 3

_log = logging.getLogger(__name__)


def start(config: NodeConfig) -> int:
    """Run the node until it is asked to end; return the exit status of the process.

    Raises ``AlreadyRunning`` when an agent has this folder.
    """
    lock = NodeLock(config.directory)
    journal.set_up()
    server = Server(config.server, config.token)
    try:
        return _serve(config, server)
    except NodeFault as fault:
        _log.critical(event("not_started", message=f"{fault.message}; `python -m nodes check` tells more"))
        return FAILED
    except Refused as error:
        _log.critical(event("not_wanted", message=f"{config.server} refuses this node: {error}"))
        return NOT_WANTED
    finally:
        server.close()
        lock.release()


def _serve(config: NodeConfig, server: Server) -> int:
    runtime = DockerRuntime(config.identity)
    source = DockerImages(runtime.engine)
    images = Images(source, allowed=config.images, pull=config.pull)
    reach = Reach(source.reachable)
    kind = workspace.probe(config.workspaces)
    health = Health(
        lambda: gather(config, runtime, kind, images.references, reach),
        config.directory,
        lambda: server.clock_offset_seconds,
    )
    parts = Parts(runtime=runtime, images=images, cores=Cores(), workspace_kind=kind, health=health)
    agent = Agent(config, server, Runner(config, server, parts), health, lambda reason: worker.leave(NOT_WANTED))
    worker = Worker(agent, config.patience_seconds, runtime.close)
    welcome = agent.join()
    return worker.serve(welcome, health.facts().capacity.slots)
