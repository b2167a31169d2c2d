"""Which control group hierarchies a machine has, and where they are mounted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MEASURED = ("cpu", "memory", "pids", "io")
_V1_NAMES = {"cpu": "cpuacct", "memory": "memory", "pids": "pids", "io": "blkio"}

_FLAGS = frozenset({"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"})


@dataclass(frozen=True, slots=True)
class Layout:
    """The mounted hierarchies: ``v1`` by controller (``name=systemd`` for a named one), ``unified`` for cgroup v2.

    A hybrid machine has both. Its engines use v1, and so do we, as long as the memory, pids or CPU controller is there.
    """

    v1: Mapping[str, Path] = field(default_factory=dict)
    unified: Path | None = None

    @property
    def version(self) -> int:
        """1 or 2: the version that carries the controllers; 0 when no control groups are mounted."""
        if any(name in self.v1 for name in ("memory", "pids", "cpuacct")):
            return 1
        return 2 if self.unified is not None else 0

    @property
    def roots(self) -> tuple[Path, ...]:
        """Every mounted hierarchy, once (v1 mounts several controllers together)."""
        unified = (self.unified,) if self.unified is not None else ()
        return tuple(dict.fromkeys((*self.v1.values(), *unified)))

    @property
    def measures(self) -> frozenset[str]:
        """Which of ``cpu``, ``memory``, ``pids``, ``io`` this machine counts."""
        if self.version == 1:
            return frozenset(name for name in MEASURED if _V1_NAMES[name] in self.v1)
        if self.unified is None:
            return frozenset()
        offered = (self.unified / "cgroup.controllers").read_text().split()
        return frozenset(name for name in MEASURED if name in offered)


def detect(mountinfo: Path = Path("/proc/self/mountinfo")) -> Layout:
    """Read the mounted hierarchies from ``mountinfo`` (proc_pid_mountinfo(5)).

    Only whole hierarchies count (mount root ``/``). In a container this needs the host's cgroup namespace and a mount
    that can be written.
    """
    v1: dict[str, Path] = {}
    unified: Path | None = None
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or fields[3] != "/":
            continue
        where = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if kind[0] == "cgroup2":
            unified = unified or where
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                if option.startswith("name=") or ("=" not in option and option not in _FLAGS):
                    v1.setdefault(option, where)
    return Layout(v1, unified)
