"""Makes the boxes of a machine, whichever version of control groups it has, and finds those that were left behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from observer.cgroups.box import Box, remove_tree
from observer.cgroups.box_v1 import BoxV1
from observer.cgroups.box_v2 import BoxV2
from observer.cgroups.files import below, processes, write
from observer.cgroups.layout import Layout
from observer.cgroups.membership import UNIFIED


def new_box(layout: Layout, groups: Mapping[str, str], name: str) -> Box:
    """Make the box ``name`` in the groups of a membership. OSError: the kernel refuses."""
    if layout.version == 1:
        return BoxV1(layout, groups, name)
    if layout.unified is None:
        raise OSError(errno.ENODEV, "no control groups are mounted")
    return BoxV2(layout.unified, groups.get(UNIFIED, "/"), name)


def controllers(layout: Layout) -> tuple[str, ...]:
    """The hierarchies that tell one container from another."""
    used = tuple(name for name in ("memory", "cpuacct", "pids") if name in layout.v1)
    return used if layout.version == 1 else (UNIFIED,)


def sweep(layout: Layout, prefix: str) -> int:
    """Thaw the boxes whose names begin with ``prefix``, and remove those in which nobody is; answers how many went.

    They are of an observer that was killed. Processes in them go on, under the limits that they have.
    """
    removed = 0
    for root in layout.roots:
        found = [path for path in below(str(root)) if os.path.basename(path).startswith(prefix)]
        for path in reversed(found):
            write(f"{path}/freezer.state", "THAWED")
            write(f"{path}/cgroup.freeze", "0")
            if not any(True for _ in processes(path)):
                removed += remove_tree(path)
    return removed
