"""Measured figures with the bars they are held against, as a table for people and as JSON for machines."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One measured figure with the bar it is held against; ``low`` is True where less is better."""

    name: str
    value: float
    bar: float
    unit: str
    low: bool
    detail: str

    @property
    def met(self) -> bool:
        """Whether the bar is reached."""
        return self.value <= self.bar if self.low else self.value >= self.bar


def at_most(name: str, value: float, bar: float, unit: str, detail: str) -> Figure:
    """A figure of which less is better."""
    return Figure(name, value, bar, unit, True, detail)


def at_least(name: str, value: float, bar: float, unit: str, detail: str) -> Figure:
    """A figure of which more is better."""
    return Figure(name, value, bar, unit, False, detail)


def show(figures: Iterable[Figure], title: str = "") -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for column in ("figure", "measured", "bar", "", "detail"):
        table.add_column(column)
    for figure in figures:
        sign = "<=" if figure.low else ">="
        met = "[green]met[/]" if figure.met else "[yellow]not met[/]"
        value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:.2f}"
        table.add_row(figure.name, f"{value} {figure.unit}", f"{sign} {figure.bar:g}", met, figure.detail)
    Console(width=160).print(table)


def write_json(path: Path, figures: Sequence[Figure]) -> None:
    """Write the figures to a file."""
    path.write_text(json.dumps([asdict(figure) | {"met": figure.met} for figure in figures], indent=2) + "\n")


def children_of(parent: int) -> list[int]:
    """The process and those that it has started itself."""
    found = [parent]
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def cpu_seconds(process: int) -> float:
    """Processor time of a process and of what it started and has ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def rss_bytes(process: int, *, peak: bool = False) -> int:
    """The memory of a process that is resident now, or was at most: getrusage(2) would tell of its parent's too."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(wanted):
            return int(line.split()[1]) * 1024
    return 0


def role(process: int) -> str:
    """Which part of the grid a process is."""
    command = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    # What a program of the node is called by comes last: its folder may have any name.
    roles = {
        "uvicorn": "web",
        "rundispatcher": "dispatcher",
        "flower": "flower",
        "valkey": "broker",
        "load_node": "node",
        "nodes start": "node",
    }
    return next((name for word, name in roles.items() if word in command), "supervisor")


def cpu_by_role(processes: Iterable[int]) -> dict[str, float]:
    """Processor seconds of processes by their part of the grid."""
    found: dict[str, float] = {}
    for process in processes:
        with contextlib.suppress(OSError):
            name = role(process)
            found[name] = found.get(name, 0.0) + cpu_seconds(process)
    return found
