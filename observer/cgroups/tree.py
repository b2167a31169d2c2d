"""All groups of one node agent: makes them, finds them again after a restart, and sweeps up."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from observer.cgroups.files import write
from observer.cgroups.group import Group
from observer.cgroups.layout import Layout

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_V1_USED = ("memory", "cpuacct", "pids", "blkio", "freezer")
_V2_USED = ("cpu", "cpuset", "io", "memory", "pids")
_MAKE_TRIES = 20


class Tree:
    """The groups under ``base`` (one per agent, such as ``grid/node1``: whatever is found there is swept).

    ``systemd`` must be true when the engine's cgroup driver is systemd (``docker info``): then a group is a slice which
    ``systemctl`` starts and stops, because systemd removes a slice that nobody started as soon as its container ends.
    """

    def __init__(self, layout: Layout, *, base: str = "grid", systemd: bool = False) -> None:
        parts = base.split("/")
        if not layout.version:
            raise OSError("no control groups are mounted")
        if any(not _NAME.fullmatch(part) or set(part) == {"."} for part in parts):
            raise ValueError(f"not a name for groups: {base!r}")
        self.layout, self._parts, self._systemd = layout, parts, systemd

    def create(self, name: str) -> Group:
        """Make the group ``name`` (of letters, digits, ``_``, ``.``, ``-``); one that is there already is taken over.

        OSError: the kernel or systemd refuses. On v1 the engine makes the folders of further controllers on its own.
        """
        group = self._group(name, adopted=False)
        if self._systemd:
            _systemctl("start", group.parent)
            return group
        if self.layout.version == 1:
            for root in {self.layout.v1[controller] for controller in _V1_USED if controller in self.layout.v1}:
                _insist(partial(_make, f"{root}/{self._where(name)}"))
            if "memory" in self.layout.v1:  # kernels before 5.11 leave it to us that a group counts those below it
                write(f"{self.layout.v1['memory']}/{self._where(name)}/memory.use_hierarchy", "1")
        else:
            _insist(partial(self._make_unified, self.layout.roots[0], name))
        return group

    def open(self, name: str) -> Group:
        """A group that was made before, by an agent that is no more."""
        return self._group(name, adopted=True)

    def names(self) -> set[str]:
        """Every group there is, in whichever hierarchy."""
        found: set[str] = set()
        for root in self.layout.roots:
            found |= _children(f"{root}/{self.base}")
        if not self._systemd:
            return found
        prefix = self._slice("")
        return {name.removeprefix(prefix).removesuffix(".slice") for name in found if name.startswith(prefix)}

    @property
    def base(self) -> str:
        """Where all groups of this tree are, relative to a hierarchy's mount."""
        return self._where("x").rpartition("/")[0]

    def remove(self, group: Group) -> bool:
        """Remove a group (idempotent); False when processes are left in it."""
        if self._systemd:
            _systemctl("stop", group.parent)
        return group.remove()

    def sweep(self, keep: set[str]) -> set[str]:
        """End and remove every group that is not in ``keep``; answers those gone (a next sweep gets the others)."""
        return self.end(self.names() - {_escape(name) if self._systemd else name for name in keep})

    def end(self, names: Collection[str]) -> set[str]:
        """End and remove the groups of these names, as ``names`` tells them; answers those gone."""
        removed = set()
        for name in names:
            group = self.open(name)
            if not group.empty():
                group.kill()
            if self.remove(group):
                removed.add(name)
        return removed

    def remove_base(self) -> bool:
        """Remove the folders of an empty ``base``; False when there are groups in it. Who makes a group makes them."""
        return self._systemd or self._remove_empty_base("/".join(self._parts))

    def remove_empty_bases(self) -> set[str]:
        """Remove the empty bases beside ours, left by agents that were killed; answers their names.

        One that lives, without an attempt just now, loses its folders too, and makes them again with its next group.
        """
        above = "/".join(self._parts[:-1])
        if not above or self._systemd:  # systemd removes slices without units by itself
            return set()
        found: set[str] = set().union(*(_children(f"{root}/{above}") for root in self.layout.roots))
        return {name for name in found - {self._parts[-1]} if self._remove_empty_base(f"{above}/{name}")}

    def _remove_empty_base(self, base: str) -> bool:
        """In all hierarchies or in none: an engine that is making the folders of a group must not lose those above."""
        folders = [f"{root}/{base}" for root in self.layout.roots]
        if any(_children(folder) for folder in folders):
            return False
        return all([_remove_empty(folder) for folder in folders])

    def _group(self, name: str, *, adopted: bool) -> Group:
        if not _NAME.fullmatch(name) or set(name) == {"."}:
            raise ValueError(f"not a name for a group: {name!r}")
        where = self._where(name)
        parent = where.rpartition("/")[2] if self._systemd else f"/{where}"
        return Group(self.layout, name, parent=parent, where=where, adopted=adopted)

    def _where(self, name: str) -> str:
        """The group's place, relative to a hierarchy's mount."""
        if not self._systemd:
            return "/".join((*self._parts, name))
        parts = [_escape(part) for part in self._parts]
        above = ["-".join(parts[: depth + 1]) + ".slice" for depth in range(len(parts))]
        return "/".join((*above, self._slice(name) + ".slice"))

    def _slice(self, name: str) -> str:
        return "-".join((*map(_escape, self._parts), _escape(name)))

    def _make_unified(self, here: Path, name: str) -> None:
        """Enable controllers in one line, from the root down: cpu or pids alone would make the groups threaded."""
        for part in self._where(name).split("/"):
            offered = (here / "cgroup.controllers").read_text().split()
            enable = " ".join(f"+{controller}" for controller in _V2_USED if controller in offered)
            (here / "cgroup.subtree_control").write_text(enable)
            here = here / part
            here.mkdir(exist_ok=True)


def _insist(make: Callable[[], None]) -> None:
    """Make folders also while somebody else removes empty ones, as :meth:`Tree.remove_empty_bases` does."""
    for _ in range(_MAKE_TRIES):
        try:
            return make()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
    return make()


def _make(folder: str) -> None:
    try:
        os.mkdir(folder)  # the usual case, and a tenth of the cost of the other
    except FileExistsError:
        return
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)


def _children(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_dir()}
    except FileNotFoundError:
        return set()


def _remove_empty(folder: str) -> bool:
    """True when it is gone; False when there are groups or processes in it."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True


def _systemctl(verb: str, unit: str) -> None:
    found = shutil.which("systemctl")
    if found is None:
        raise OSError("the engine's cgroup driver is systemd, but there is no systemctl")
    done = subprocess.run([found, verb, unit], check=False, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise OSError(f"systemctl {verb} {unit}: {done.stderr.strip()}")


def _escape(name: str) -> str:
    """A dash in the name of a slice means "below": write it as an underscore."""
    return name.replace("-", "_")
