"""The visible part of scripts/bench_kolejka: ``uname`` through a whole grid and by kolejka-worker, in turns.

Both run the same folder, with the same limits, and write a result folder; both are timed as commands, from their start
to their end. With limits kolejka-worker has kolejka's observer beside it, which it insists on; without any it needs
none, and is at its quickest. The library's rows are submits of a Python program that runs already.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import Grid, a_grid, seconds_of
from bench_observer import serving
from figures import Figure, at_most, show, write_json
from rich.console import Console
from rich.progress import track

IMAGE = "busybox"
SOCKET = Path("/var/run/kolejka/observer/socket")
LIMITS: dict[str, object] = {"cpus": 1, "memory": "64M", "swap": "0", "pids": 16, "time": "30s", "network": False}
NONE: dict[str, object] = {"network": False}
PERF_EVENT = Path(__file__).with_name("perf-event")
RATIO = 0.5
CPU_MS = 10.0
MEMORY_MIB = 4.0
PAUSE_SECONDS = 0.3

console = Console(stderr=True)


def main() -> int:
    """Measure and print; always 0, for a slow machine is no fault."""
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=Path, help="folder with kolejka-worker and kolejka-observer")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    wanted = parser.parse_args()
    if SOCKET.exists():
        sys.exit(f"{SOCKET}: an observer is here already")
    with tempfile.TemporaryDirectory(prefix="celery-grid-bench-") as name, a_grid(Path(name)) as grid:
        run = Run(Path(name), grid, wanted.programs / "kolejka-worker")
        plain = run.rounds("without limits", NONE, wanted.rounds)
        with kolejka_observer(wanted.programs):
            limited = run.rounds("with limits", LIMITS, wanted.rounds)
    figures = [*compared("with limits", limited), *compared("without limits", plain), *usages(limited)]
    show(figures)
    if wanted.json:
        write_json(wanted.json, figures)
    return 0


@dataclass(frozen=True)
class Usage:
    """What a result says that its task used."""

    cpu_ms: float
    memory_mib: float


@dataclass(frozen=True)
class Round:
    """Seconds of the two commands and of the library, and what the two results say."""

    ours: float
    theirs: float
    library: float
    our_usage: Usage
    their_usage: Usage


@dataclass(frozen=True)
class Run:
    """The two programs, with a folder for what they write."""

    folder: Path
    grid: Grid
    worker: Path

    def rounds(self, name: str, limits: dict[str, object], count: int) -> list[Round]:
        """So many rounds with these limits, after one that is not counted."""
        task = self.folder / name.replace(" ", "-")
        task.mkdir()
        spec = {"image": IMAGE, "args": ["uname"], "stdout": "stdout.txt", "limits": limits}
        (task / "kolejka_task.json").write_text(json.dumps(spec))
        self._round(task, turned=False)
        turns = track(range(count), name, console=console, transient=True)
        return [self._round(task, turned=bool(turn % 2)) for turn in turns]

    def _round(self, task: Path, *, turned: bool) -> Round:
        """Who is first changes: what one does may leave the engine busy for a while."""
        results = {side: self.folder / f"{task.name}-{side}" for side in ("ours", "theirs")}
        ours = [str(Path(sys.executable).with_name("grid")), "run", str(task), str(results["ours"]), "--force"]
        theirs = [str(self.worker), "execute", str(task), str(results["theirs"])]
        spent: dict[str, float] = {}
        for side, command in sorted({"ours": ours, "theirs": theirs}.items(), reverse=turned):
            time.sleep(PAUSE_SECONDS)
            spent[side] = seconds_of(partial(carried_out, command))
            if (results[side] / "stdout.txt").read_text() != "Linux\n":
                sys.exit(f"{command[0]} brought no output of uname")
        time.sleep(PAUSE_SECONDS)
        library = seconds_of(lambda: self.grid.client.submit(task).wait(timeout=60))
        return Round(
            spent["ours"], spent["theirs"], library, our_usage(results["ours"]), their_usage(results["theirs"])
        )


def carried_out(command: list[str]) -> None:
    """Run a command that has to succeed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}")


def our_usage(result: Path) -> Usage:
    """Of a result.json."""
    usage = json.loads((result / "result.json").read_text())["usage"]
    return Usage(usage["cpu_seconds"] * 1000, usage["memory_peak_bytes"] / 1024**2)


def their_usage(result: Path) -> Usage:
    """Of a kolejka_result.json, in whose figures kolejka's own programs in the container are.

    Without an observer the worker asks now and then, and knows nothing of what ends in between: that is nan here.
    """
    record = json.loads((result / "kolejka_result.json").read_text())
    if record["result"] != 0:
        sys.exit(f"kolejka-worker: the task ended with {record['result']}")
    cpu, memory = (
        record["stats"][name].get(field, "nan") for name, field in (("cpu", "usage"), ("memory", "max_usage"))
    )
    return Usage(float(cpu.rstrip("s")) * 1000, float(memory.rstrip("b")) / 1024**2)


@contextlib.contextmanager
def kolejka_observer(programs: Path) -> Iterator[None]:
    """kolejka's own, at the only place where its worker looks for it."""
    made = [path for path in (SOCKET.parent.parent, SOCKET.parent) if not path.exists()]
    SOCKET.parent.mkdir(parents=True, exist_ok=True)
    try:
        command = [str(PERF_EVENT), str(programs / "kolejka-observer"), "--socket", str(SOCKET)]
        with serving(command, SOCKET):
            yield
    finally:
        SOCKET.unlink(missing_ok=True)
        for path in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def compared(name: str, rounds: list[Round]) -> list[Figure]:
    """The command of the grid, and its library, over kolejka-worker: the median of the ratios of each round."""
    ours, library, theirs = (
        statistics.median(getattr(one, side) for one in rounds) * 1000 for side in ("ours", "library", "theirs")
    )
    told = f"kolejka-worker {theirs:.0f} ms, medians of {len(rounds)}"
    by_command = statistics.median(one.ours / one.theirs for one in rounds)
    by_library = statistics.median(one.library / one.theirs for one in rounds)
    return [
        at_most(f"grid run / kolejka-worker, {name}", by_command, RATIO, "", f"grid run {ours:.0f} ms, {told}"),
        at_most(f"submit().wait() / kolejka-worker, {name}", by_library, RATIO, "", f"{library:.0f} ms, {told}"),
    ]


def usages(rounds: list[Round]) -> list[Figure]:
    """What uname used, as the two results have it: the worst of ours against the bar."""
    ours, theirs = [one.our_usage for one in rounds], [one.their_usage for one in rounds]
    cpu, memory = (statistics.median(getattr(one, name) for one in theirs) for name in ("cpu_ms", "memory_mib"))
    most_cpu, most_memory = max(one.cpu_ms for one in ours), max(one.memory_mib for one in ours)
    median_cpu, median_memory = (
        statistics.median(getattr(one, name) for one in ours) for name in ("cpu_ms", "memory_mib")
    )
    return [
        at_most("cpu of uname, worst", most_cpu, CPU_MS, "ms", f"median {median_cpu:.1f}, kolejka says {cpu:.0f}"),
        at_most(
            "memory of uname, worst",
            most_memory,
            MEMORY_MIB,
            "MiB",
            f"median {median_memory:.2f}, kolejka says {memory:.1f}",
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
