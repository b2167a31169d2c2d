"""A whole grid that has nothing to do: what its processes use of a core."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import a_grid
from figures import Figure, at_most, children_of, cpu_by_role, role, rss_bytes

SETTLE_SECONDS = 20.0


def idle(seconds: float) -> Iterator[Figure]:
    """Start a grid as people do, let it settle, and watch it."""
    with tempfile.TemporaryDirectory(prefix="celery-grid-load-") as folder, a_grid(Path(folder)) as grid:
        time.sleep(SETTLE_SECONDS)
        processes = children_of(grid.process)
        before, began = cpu_by_role(processes), time.monotonic()
        time.sleep(seconds)
        after, took = cpu_by_role(processes), time.monotonic() - began
        shares = {name: (after[name] - before.get(name, 0.0)) / took * 100 for name in after}
        detail = ", ".join(f"{name} {share:.2f}" for name, share in sorted(shares.items(), key=lambda item: -item[1]))
        yield at_most("idle grid", sum(shares.values()), 2, "% of a core", f"{detail}; over {took:.0f} s")
        sizes = {role(process): rss_bytes(process) / 2**20 for process in processes}
        detail = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
        yield at_most("RSS of an idle agent", sizes["node"], 100, "MB", detail)
