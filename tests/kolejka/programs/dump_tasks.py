"""Reads a JSON list of task descriptions and prints what kolejka's own classes make of each: its dump, or null."""

from __future__ import annotations

import json
import sys
from typing import Any


def dumped(data: object) -> dict[str, Any] | None:
    """The task as kolejka writes it; None where it cannot read it."""
    from kolejka.common import KolejkaTask

    task = KolejkaTask(None)
    try:
        task.load(data)
        found: dict[str, Any] = task.dump()
    except (ValueError, TypeError, AttributeError, AssertionError, OverflowError):
        return None
    return found


if __name__ == "__main__":
    json.dump([dumped(one) for one in json.load(sys.stdin)], sys.stdout)
