"""In which groups a process is, as the kernel tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from observer.cgroups.files import read

UNIFIED = ""
"""The key of the unified hierarchy in a membership."""

PREFIX = "grid_observer_"
LEAF = f"{PREFIX}leaf"
"""The group into which a group's own processes go where it may not have any itself (cgroup v2)."""

_SESSION = re.compile(rf"{PREFIX}[0-9a-f]{{8}}_([0-9a-f]{{32}})")


def membership(pid: int) -> dict[str, str]:
    """The group of a process in each hierarchy, by controller (``name=systemd`` for a named one, ``""`` for v2).

    Empty when there is no such process (any more).
    """
    found: dict[str, str] = {}
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def group_name(tag: str, session_id: str) -> str:
    """The name of a session's group; ``tag`` (8 hexadecimal digits) tells the observers of a machine apart."""
    return f"{PREFIX}{tag}_{session_id}"


def home(path: str) -> str:
    """The group whose processes are in ``path``: itself, or the one above where ``path`` is a leaf of ours."""
    return path.removesuffix("/" + LEAF) or "/" if path.endswith("/" + LEAF) else path


def outermost(path: str) -> str:
    """``path`` up to the first group that an observer made: the container's own group."""
    return path.partition("/" + PREFIX)[0] or "/"


def sessions_above(path: str) -> tuple[str, ...]:
    """The ids of the sessions that ``path`` is in, the outermost first."""
    return tuple(found[1] for part in path.split("/") if (found := _SESSION.fullmatch(part)))


def scope_of(groups: Mapping[str, str], controllers: tuple[str, ...]) -> str:
    """What processes of one container have in common, and those of two containers do not."""
    return "|".join(outermost(groups.get(controller, "/")) for controller in controllers)
