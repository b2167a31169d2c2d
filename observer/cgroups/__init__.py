"""Accounting and killing by control groups, one library for cgroup v1, v2 and hybrid machines; standard library only.

Every attempt gets a parent group of its own; containers are started below it (``docker --cgroup-parent``), so that its
counters outlive the container and all of its processes can be ended at once::

    tree = Tree(detect(), base="grid/node1")
    group = tree.create("attempt7")
    ...  # start a container with --cgroup-parent group.parent
    while not group.started:  # every few milliseconds: this is how the engine's own share is told apart
        if not group.quiet():
            group.read()
    group.read()  # from now on: what the task itself used
    group.kill()
    tree.remove(group)
"""

from observer.cgroups.files import cpu_seconds, held_bytes
from observer.cgroups.group import Group
from observer.cgroups.layout import Layout, detect
from observer.cgroups.tree import Tree
from observer.cgroups.usage import GroupUsage

__all__ = ["Group", "GroupUsage", "Layout", "Tree", "cpu_seconds", "detect", "held_bytes"]
