"""The visible part of scripts/bench: what the grid adds to Docker, as ratios measured side by side in one run.

Three figures, each with the bar it is held against:

* latency: from submit to the known result of ``uname`` on an idle grid, over `docker run --rm` with the same limits;
* throughput: tasks per second through the whole grid, over a loop on Docker's own API at its best number of threads;
* own CPU: processor time of all processes of the grid for one task (the engine's not included).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import docker
from figures import Figure, children_of, cpu_by_role, show, write_json
from rich.console import Console
from rich.progress import track

from grid import Client

IMAGE = "busybox"
THREADS = (1, 2, 4, 8)
START_SECONDS = 180.0
MEMORY_BYTES = 64 * 1024**2
PIDS = 16

console = Console(stderr=True)


def main() -> int:
    """Measure and print; always 0, for a slow machine is no fault."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21, help="rounds of the latency comparison")
    parser.add_argument("--tasks", type=int, default=60, help="tasks of the throughput comparison")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="celery-grid-bench-") as folder, a_grid(Path(folder)) as grid:
        figures = [latency(grid, wanted.rounds), *throughput(grid, wanted.tasks)]
    show(figures)
    if wanted.json:
        write_json(wanted.json, figures)
    return 0


@dataclass(frozen=True)
class Grid:
    """A running grid: its client, its process, and the folders of its two task kinds."""

    client: Client
    process: int
    whole: Path
    small: Path


@contextlib.contextmanager
def a_grid(folder: Path) -> Iterator[Grid]:
    """Start a grid of its own, and stop it in the end."""
    os.environ["GRID_CONFIG"] = str(folder / "client.toml")
    log = (folder / "up.log").open("wb")
    command = [str(Path(sys.executable).with_name("grid")), "up", "--dir", str(folder / "grid"), "--port", "0"]
    up = subprocess.Popen([*command, "--slots", "8"], stdout=log, stderr=log, start_new_session=True)
    try:
        with connected(folder) as client:
            yield Grid(client, up.pid, a_task(folder, "whole", 1), a_task(folder, "small", 0.25))
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(timeout=60)
        log.close()


def connected(folder: Path) -> Client:
    """A client of the grid, once its node is ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            client = Client()
            if any(node.ready for node in client.nodes()):
                return client
        time.sleep(0.1)
    sys.exit((folder / "up.log").read_text() + "\nthe grid did not start")


def a_task(folder: Path, name: str, cpus: float) -> Path:
    """A folder with the task ``uname`` under limits."""
    limits = {"memory": MEMORY_BYTES, "cpus": cpus, "pids": PIDS, "time": "30s"}
    path = folder / name
    path.mkdir()
    spec = {"image": IMAGE, "args": ["uname"], "limits": limits, "stdout": "stdout.txt"}
    (path / "task.json").write_text(json.dumps(spec))
    return path


def seconds_of(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def latency(grid: Grid, rounds: int) -> Figure:
    """Submit to result on an idle grid against `docker run --rm` with the same limits, in turns."""
    limits = ["--network", "none", "--memory", str(MEMORY_BYTES), "--memory-swap", str(MEMORY_BYTES)]
    limits += ["--cpus", "1", "--pids-limit", str(PIDS)]
    command = ["docker", "run", "--rm", *limits, IMAGE, "uname"]

    def through_docker() -> object:
        return subprocess.run(command, check=True, capture_output=True)

    def through_grid() -> object:
        result = grid.client.submit(grid.whole).wait(timeout=60)
        if result.verdict != "succeeded":
            sys.exit(f"the task ended as {result.verdict}: {result.reason}")
        return result

    through_docker(), through_grid()
    pairs = [
        (seconds_of(through_docker), seconds_of(through_grid))
        for _ in track(range(rounds), "latency", console=console, transient=True)
    ]
    ours, theirs = (statistics.median(pair[index] for pair in pairs) for index in (1, 0))
    detail = f"grid {ours * 1000:.0f} ms, docker run {theirs * 1000:.0f} ms, medians of {rounds}"
    return Figure("cold latency / docker run", statistics.median(b / a for a, b in pairs), 1.15, "", True, detail)


def throughput(grid: Grid, tasks: int) -> list[Figure]:
    """Tasks per second through the grid against the raw API; and what they cost the grid's own processes."""
    raw = {threads: tasks / raw_seconds(threads, tasks) for threads in track(THREADS, "raw API", console=console)}
    best = max(raw, key=lambda threads: raw[threads])
    before = cpu_by_role(children_of(grid.process))
    spent = seconds_of(lambda: all_through_grid(grid, tasks))
    after = cpu_by_role(children_of(grid.process))
    # The raw loop once more afterwards: the machine's speed drifts.
    again = tasks / raw_seconds(best, tasks)
    reference = (raw[best] + again) / 2
    used = {name: (after[name] - before.get(name, 0.0)) * 1000 / tasks for name in after}
    detail = ", ".join(f"{name} {cost:.1f}" for name, cost in sorted(used.items(), key=lambda item: -item[1]))
    ratio = tasks / spent / reference
    return [
        Figure(
            "throughput / raw API",
            ratio,
            0.9,
            "",
            False,
            f"grid {tasks / spent:.1f}/s, raw API {reference:.1f}/s with {best} threads",
        ),
        Figure("own CPU per task", sum(used.values()), 25.0, "ms", True, detail),
    ]


def raw_seconds(threads: int, tasks: int) -> float:
    """How long the raw API takes for ``tasks`` containers on that many threads."""
    api = docker.APIClient(num_pools=threads)
    host = api.create_host_config(
        mem_limit=MEMORY_BYTES, memswap_limit=MEMORY_BYTES, pids_limit=PIDS, network_mode="none", nano_cpus=250_000_000
    )

    def one(_: int) -> None:
        container = api.create_container(IMAGE, ["uname"], host_config=host)["Id"]
        api.start(container)
        api.wait(container)
        api.logs(container)
        api.remove_container(container)

    with ThreadPoolExecutor(threads) as pool:
        return seconds_of(lambda: list(pool.map(one, range(tasks))))


def all_through_grid(grid: Grid, tasks: int) -> None:
    """Submit at once from many threads and wait for all."""

    def one(_: int) -> str:
        return grid.client.submit(grid.small).wait(timeout=300).verdict

    with ThreadPoolExecutor(16) as pool:
        verdicts = list(pool.map(one, range(tasks)))
    if set(verdicts) != {"succeeded"}:
        sys.exit(f"some tasks did not succeed: {sorted(verdicts)}")


if __name__ == "__main__":
    sys.exit(main())
