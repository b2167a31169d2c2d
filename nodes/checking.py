"""Prints what ``nodes.check`` found, for people or for programs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from nodes.check import Check, as_json, run_checks, worst
from tasks.views import Level

# Wide enough that no line is broken where grep reads it.
_PIPED_WIDTH = 250
_COLOURS = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "red"}


def check(directory: Path, server: str | None, *, json: bool) -> int:
    """Look at this machine and print what was found; 0 when it can be a node, 1 when something fails."""
    found = run_checks(directory, server)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    if json:
        console.print(as_json(found), markup=False, soft_wrap=True)
    else:
        console.print(_table(found))
    return 1 if worst(found) is Level.FAIL else 0


def _table(found: list[Check]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("check", "", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for one in found:
        table.add_row(one.name, f"[{_COLOURS[one.level]}]{one.level}[/]", _plain(one.detail), _plain(one.hint))
    return table


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
