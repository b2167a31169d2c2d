"""Many tasks through a whole grid without containers: whether anything of it grows, and what it costs the processor."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from figures import Figure, at_most, cpu_by_role, rss_bytes
from load_queue import SPEC, Door
from load_stack import LIB, ROOT, Stack, a_stack
from rich.console import Console

from grid.up.supervisor import Program

SLOTS = 8
BATCH = 500
WAVE_SECONDS = 600.0
# The engine's share of a task, and that of a Celery worker's events that nobody reads, are not in here.
GROWS = ("web", "dispatcher", "node")

console = Console(stderr=True)


def memory(counts: Sequence[int]) -> Iterator[Figure]:
    """Run tasks up to each of the counts, and compare what is resident after the first and after the last."""
    with tempfile.TemporaryDirectory(prefix="celery-grid-load-") as folder, a_stack(Path(folder)) as stack:
        stack.start_dispatcher()
        start_node(stack)
        door = Door(stack)
        processes = {name: stack.process(name) for name in GROWS}
        sizes: dict[int, dict[str, float]] = {}
        done, before = 0, {}
        for count in counts:
            before = cpu_by_role([one.pid for one in stack.programs.values()])
            first, began = done, time.monotonic()
            while done < count:
                wave(door, min(BATCH, count - done))
                done += min(BATCH, count - done)
            took = time.monotonic() - began
            after = cpu_by_role([one.pid for one in stack.programs.values()])
            sizes[count] = {name: rss_bytes(process) / 2**20 for name, process in processes.items()}
            console.print(f"{count:,} tasks; {(count - first) / took:.1f}/s; {sizes[count]}", highlight=False)
        each = {name: (after[name] - before.get(name, 0.0)) / (counts[-1] - first) * 1000 for name in after}
        least, most = counts[0], counts[-1]
        for name in GROWS:
            detail = f"{sizes[least][name]:.0f} MB after {least:,} tasks, {sizes[most][name]:.0f} MB after {most:,}"
            yield at_most(f"RSS of {name}, growth", sizes[most][name] / sizes[least][name], 1.1, "", detail)
        yield at_most("RSS of the agent", sizes[most]["node"], 100, "MB", f"after {most:,} tasks")
        detail = ", ".join(f"{name} {cost:.1f}" for name, cost in sorted(each.items(), key=lambda item: -item[1]))
        yield at_most("CPU per task without engine, in bulk", sum(each.values()), 25, "ms", detail)


def start_node(stack: Stack) -> None:
    """Start the node, and wait until it is ready."""
    door = Door(stack)
    folder = stack.plan.directory / "node"
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GRID_")}
    environment = kept | {"GRID_TOKEN": stack.node_token, "PYTHONPATH": str(ROOT)}
    command = (sys.executable, str(LIB / "load_node.py"), stack.server, str(folder), str(SLOTS))
    stack.start(
        Program("node", command, environment, ready=lambda: b'"ready":true' in door.ask("GET", "/api/v1/nodes")[0])
    )


def wave(door: Door, count: int) -> None:
    """Submit so many tasks at once and wait for the last."""
    tasks = [{"spec": SPEC} for _ in range(count)]
    door.ask("POST", "/api/v1/tasks/bulk", {"tasks": tasks}, **{"Idempotency-Key": uuid.uuid4().hex})
    deadline = time.monotonic() + WAVE_SECONDS
    while any(
        b'"id"' in door.ask("GET", f"/api/v1/tasks?state={state}&limit=1")[0]
        for state in ("queued", "assigned", "running")
    ):
        if time.monotonic() > deadline:
            raise SystemExit(f"{count} tasks did not end within {WAVE_SECONDS:g} s")
        time.sleep(0.25)
    if b'"id"' in door.ask("GET", "/api/v1/tasks?state=failed&limit=1")[0]:
        raise SystemExit("a task failed")
