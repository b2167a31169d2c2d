"""The runtime that runs every attempt in a container of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterator

from nodes.faults import fault_of
from nodes.runtimes import Capabilities, Exit, Job, Stop
from nodes.runtimes.docker import profile
from nodes.runtimes.docker.ability import Ability
from nodes.runtimes.docker.cleaner import Cleaner, Leftovers
from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.errors import EngineError, EngineGone, NotThere
from nodes.runtimes.docker.images import DockerImages
from nodes.runtimes.docker.marks import Marks
from nodes.runtimes.docker.run import Place, Run
from observer.cgroups import Group, Tree, detect
from tasks.errors import NodeFault

_GROUPS = "grid"
_DIGEST = "sha256:"

_log = logging.getLogger(__name__)


class DockerRuntime:
    """Runs jobs of ``node`` in the engine at ``address`` (None: as ``DOCKER_HOST`` says); for many threads at once.

    Containers and groups of ``node`` are this object's own: two agents must not share a name on one machine.
    """

    def __init__(self, node: str, address: str | None = None) -> None:
        self.engine = Engine(address)
        self.images = DockerImages(self.engine)
        self._node = node
        self._cleaner = Cleaner(self.engine)
        self._lock = threading.Lock()
        self._ability: Ability | None = None
        self._tree: Tree | None = None
        self._volumes: dict[str, tuple[str, ...]] = {}
        self._running: set[str] = set()

    def probe(self) -> Capabilities:
        """Ask the engine what it offers. Raises NodeFault when it does not answer."""
        with _faults():
            ability = self._ask()
        return Capabilities(runtime="docker", enforces=ability.limits, details=ability.details)

    def run(self, job: Job, stop: Stop) -> Exit:
        """Run a job, or go on with it after a restart; asked for again it has the same exit. Raises NodeFault."""
        marks = Marks.of(job)
        if (known := marks.exit()) is not None:
            self._leave(job.attempt)
            return known
        with _faults():
            ability = self._ability or self._ask()
            group = self._group(job.attempt, adopted=marks.started)
            run = Run(Place(self.engine, ability, group, self._image_volumes(job.image)), job, stop)
            self._running.add(job.attempt)
            try:
                end = run.to_end()
                marks.set_exit(end)
            except (NodeFault, EngineError, EngineGone, OSError):
                if group is not None:
                    group.kill()
                self._cleaner.put(Leftovers(run.container, group, self._tree))
                raise
            finally:
                self._running.discard(job.attempt)
            self._cleaner.put(Leftovers(run.container, group, self._tree))
            return end

    def _leave(self, attempt: str) -> None:
        """A former start knew the end, and may have been killed before it had removed the container."""
        group = self._tree.open(attempt) if self._tree is not None and attempt in self._tree.names() else None
        self._cleaner.put(Leftovers(profile.container_name(attempt), group, self._tree))

    def kill(self, attempt: str) -> None:
        """End the job of ``attempt`` at once, if there is one; remove it unless it is run here. Raises NodeFault."""
        with _faults():
            if self._tree is not None and attempt in self._tree.names():
                self._tree.open(attempt).kill()
            self.engine.kill(profile.container_name(attempt))
        if attempt not in self._running:
            self._leave(attempt)

    def reap(self, keep: Collection[str]) -> tuple[str, ...]:
        """End and remove all containers and groups of this node whose attempt is not in ``keep``. Raises NodeFault.

        ``keep`` is asked only after the containers and groups were listed: it may be a live view of what is known.
        """
        with _faults():
            if self._ability is None:
                self._ask()
            gone = {}
            for one in self.engine.labelled({profile.LABEL_OWNER: self._node}):
                attempt = str(one["Labels"].get(profile.LABEL_ATTEMPT, ""))
                if attempt not in keep:
                    gone[attempt] = str(one["Id"])
            swept = set()
            if self._tree is not None:
                # Before the containers: an agent that was killed while it ended a group may have left it frozen, and
                # no engine can end what is frozen.
                swept = self._tree.end([name for name in self._tree.names() if name not in keep])
            for container in gone.values():
                self.engine.remove(container)
            if self._tree is not None:
                swept |= self._tree.end([name for name in self._tree.names() if name not in keep])
                self._tree.remove_empty_bases()
        return tuple(sorted({*gone, *swept}))

    @property
    def groups(self) -> str | None:
        """Where all groups of this node are, relative to the mounts; None when it has none, or was not probed yet."""
        return self._tree.base if self._tree is not None else None

    def close(self, seconds: float = 10.0) -> None:
        """Finish what is done in the background, for at most ``seconds``."""
        self._cleaner.close(seconds)
        self.engine.close()
        if self._tree is not None:
            with contextlib.suppress(OSError):
                self._tree.remove_base()

    def _ask(self) -> Ability:
        info = self.engine.info()
        with self._lock:
            if self._tree is None:
                self._tree = _make_tree(self._node, systemd=info.get("CgroupDriver") == "systemd")
            self._ability = Ability.of(info, counts_cpu=self._tree is not None)
            return self._ability

    def _group(self, attempt: str, *, adopted: bool) -> Group | None:
        if self._tree is None:
            return None
        return self._tree.open(attempt) if adopted else self._tree.create(attempt)

    def _image_volumes(self, image: str) -> tuple[str, ...]:
        """The folders that an image declares as volumes; remembered where the name is that of its content."""
        if (known := self._volumes.get(image)) is not None:
            return known
        try:
            declared = self.engine.image(image)["Config"].get("Volumes") or {}
        except NotThere as error:
            raise NodeFault("runtime_error", f"the image {image} has gone from the node: {error.message}") from error
        found = tuple(sorted(declared))
        if image.startswith(_DIGEST):
            self._volumes[image] = found
        return found


def _make_tree(node: str, *, systemd: bool) -> Tree | None:
    """The node's groups; None where they may not be made (not root): nothing is measured then."""
    try:
        tree = Tree(detect(), base=f"{_GROUPS}/{node}", systemd=systemd)
        probe = tree.create("probe")
        tree.remove(probe)
    except OSError as error:
        _log.warning("no control groups of our own: %s", error)
        return None
    return tree


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Whatever is wrong with the engine is a fault of the node."""
    try:
        yield
    except EngineError as error:
        raise NodeFault("runtime_error", error.message) from error
    except EngineGone as error:
        raise NodeFault("runtime_error", f"the container engine does not answer: {error}") from error
    except OSError as error:
        raise fault_of(error, "runtime_error") from error
