"""What an error of the operating system means for an attempt: the node's disk is full, or something else is wrong."""

from __future__ import annotations

import errno

from tasks.errors import NodeFault

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errors of a disk, or of a quota on it, that has no room."""


def fault_of(error: OSError, otherwise: str) -> NodeFault:
    """The fault that an error outside of the task's own folder is: ``node_disk`` without room, else ``otherwise``."""
    if error.errno in FULL:
        where = f" {error.filename}" if error.filename else " what belongs to the attempt"
        return NodeFault("node_disk", f"cannot write{where}: {error.strerror}")
    return NodeFault(otherwise, str(error))
