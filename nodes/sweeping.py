"""Removes what attempts that the node does not know (any more) have left on the machine.

That is containers, control groups, workspaces with their mounts, folders of attempts, loop devices. All of it carries
the attempt's id in its label, its name or its path, so nothing of anybody else's is touched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nodes import loopdevice
from nodes import workspace as workspaces
from nodes.attempt import folders_in
from nodes.config import NodeConfig
from nodes.journal import event
from nodes.runtimes import Runtime
from tasks.errors import NodeFault

_PROBE_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Suspects(Collection[str]):
    """What must stay, as a live view: the attempts that are ``known``, and whatever is seen for the first time.

    An attempt that has just been settled is being cleaned up after by somebody else; only what is still there at the
    next look is an orphan. ``turn`` ends a look.
    """

    known: Callable[[str], bool]
    _seen: set[str] = field(default_factory=set)
    _before: set[str] = field(default_factory=set)

    def __contains__(self, attempt: object) -> bool:
        if not isinstance(attempt, str) or self.known(attempt):
            return True
        self._seen.add(attempt)
        return attempt not in self._before

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def turn(self) -> None:
        """The look is over."""
        self._before, self._seen = self._seen, set()


class Sweeper:
    """Looks from time to time. ``known(attempt)`` is true from before anything of it is there until all is gone."""

    def __init__(
        self, config: NodeConfig, runtime: Runtime, known: Callable[[str], bool], clean: Callable[[str], None]
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._clean = clean
        self._suspects = Suspects(known)

    def look(self) -> None:
        """Remove what was an orphan at the last look, too. Raises NodeFault when the engine does not answer."""
        try:
            for attempt in self._runtime.reap(self._suspects):
                _log.warning(event("swept", attempt=attempt, message="a container or group that nobody knew"))
            for attempt in sorted(left_behind(self._config)):
                if attempt not in self._suspects:
                    _log.warning(event("swept", attempt=attempt, message="a folder that nobody knew"))
                    self._clean(attempt)
            sweep_devices(self._config, self._suspects)
        finally:
            self._suspects.turn()


def left_behind(config: NodeConfig) -> set[str]:
    """The attempts, and probes of workspaces, that have a folder on the node."""
    found = {folder.path.name for folder in folders_in(config.attempts)}
    return found | {folder.name for folder in workspaces.leftovers(config.workspaces)}


def sweep_devices(config: NodeConfig, keep: Collection[str]) -> int:
    """Let go of loop devices of this node whose attempt is not in ``keep`` and that nobody has mounted."""
    gone = 0
    for device, backing in loopdevice.attached(config.workspaces):
        attempt = backing.relative_to(config.workspaces.resolve()).parts[0]
        if attempt not in keep and loopdevice.detach(device):
            _log.warning(event("device_swept", attempt=attempt, device=device))
            gone += 1
    return gone


def sweep_probes(directory: Path, now: float) -> None:
    """Remove workspaces that a check of the machine made in the node's folder, and was killed over.

    ``now`` is in seconds since 1970: one that is being made just now is left alone.
    """
    for folder in sorted(directory.glob(f"{workspaces.PROBE}*")):
        try:
            if now - folder.stat().st_mtime > _PROBE_SECONDS:
                workspaces.destroy(folder)
        except (NodeFault, OSError) as fault:
            _log.error(event("not_swept", message=str(fault)))
