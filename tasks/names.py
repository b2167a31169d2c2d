"""The names that the grid gives to things of its own."""

from __future__ import annotations

import re

# It becomes part of a queue's name, of container labels, of file names and of addresses.
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)


def node_name_fault(name: str) -> str:
    """Why ``name`` cannot be the name of a node, with what to write instead; empty when it can."""
    if _NODE.fullmatch(name):
        return ""
    return f'"{name[:80]}" is not a name for a node; write letters, digits, ".", "_" and "-", at most 63'
