"""Puts a node together from its parts, and runs it to its end."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from nodes import journal, workspace
from nodes.agent import Agent
from nodes.config import NodeConfig, Share
from nodes.cores import Cores
from nodes.facts import gather
from nodes.foreign import ForeignLoad, Machine, total_memory
from nodes.health import Health
from nodes.imagecache import ImageCache
from nodes.images import Images
from nodes.journal import event
from nodes.lock import NodeLock
from nodes.reach import Reach
from nodes.runner import Parts, Runner
from nodes.runtimes.docker import DockerRuntime
from nodes.runtimes.docker.images import DockerImages
from nodes.server import Server
from nodes.sweeping import Sweeper
from nodes.upkeep import Chore, Upkeep
from nodes.worker import Worker
from observer.cgroups import detect
from tasks.errors import NodeFault, Refused
from tasks.order import Capacity, Foreign

# How often images are looked through, and what nobody knows is looked for (it goes when it was seen twice).
IMAGES_SECONDS = 60.0
ORPHANS_SECONDS = 120.0
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
    cache = ImageCache(config.image_record, source, budget_bytes=config.image_cache_bytes, room=source.room)
    images = Images(source, allowed=config.images, pull=config.pull, cache=cache)
    reach = Reach(source.reachable)
    kind = workspace.probe(config.workspaces)
    details = lambda: {"image cache": cache.words, "share": str(config.share)}  # noqa: E731 - read best beside its use
    health = Health(
        lambda: gather(config, runtime, kind, images.references, reach, details),
        config.directory,
        lambda: server.clock_offset_seconds,
        _foreign(config, runtime),
    )
    parts = Parts(runtime=runtime, images=images, cores=Cores(), workspace_kind=kind, health=health)
    runner = Runner(config, server, parts)
    agent = Agent(
        config, server, runner, health, lambda reason: worker.leave(NOT_WANTED), lambda: worker.connect_anew()
    )
    worker = Worker(agent, config.patience_seconds, runtime.close)
    sweeper = Sweeper(config, runtime, agent.knows, runner.clean)
    upkeep = Upkeep(
        (Chore("images", IMAGES_SECONDS, images.trim), Chore("orphans", ORPHANS_SECONDS, sweeper.look)),
    )
    welcome = agent.join()
    upkeep.start()
    try:
        return worker.serve(welcome, health.facts().capacity.slots)
    finally:
        upkeep.close()


def _foreign(config: NodeConfig, runtime: DockerRuntime) -> Callable[[Capacity], Foreign]:
    """How what others use of the machine is told; nothing where it is the grid's own."""
    if config.share is Share.ALL:
        return lambda offered: Foreign()
    cores = os.sched_getaffinity(0)
    machine = Machine(detect(), lambda: runtime.groups, cores, time.monotonic)
    return ForeignLoad(machine, len(cores), total_memory())
