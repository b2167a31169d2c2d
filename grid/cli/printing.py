"""How the command line prints: for people on a terminal, plain and greppable into a pipe, JSON when asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, TypeAdapter
from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from grid.saving import Progress as Told
from grid.saving import no_progress
from tasks.units import human_seconds, human_size

STYLES = {"success": "green", "user": "red", "infrastructure": "magenta", "cancelled": "yellow"}
# Bars that come and go at once only flicker.
QUIET_BYTES = 256 * 1024
_ANY: TypeAdapter[Any] = TypeAdapter(Any)

Cell = str | Text


def on_terminal() -> bool:
    """True when standard output is read by a person."""
    return sys.stdout.isatty()


def complain(message: str) -> None:
    """One message on standard error, with the name of the program before each line."""
    for line in message.splitlines() or [""]:
        print(f"grid: {clean(line)}", file=sys.stderr)  # noqa: T201 - this is where the program talks


def note(message: str) -> None:
    """A remark on standard error, of one or more lines."""
    for line in message.split("\n"):
        print(clean(line), file=sys.stderr)  # noqa: T201 - this is where the program talks


def say(text: str) -> None:
    """A line on standard output."""
    print(clean(text))  # noqa: T201 - this is where the program talks


def say_json(value: object) -> None:
    """A view, or a list of them, as JSON on standard output."""
    plain = (
        json.loads(value.model_dump_json()) if isinstance(value, BaseModel) else _ANY.dump_python(value, mode="json")
    )
    print(json.dumps(plain, indent=2, ensure_ascii=False))  # noqa: T201 - this is where the program talks


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Rows as a table for people; into a pipe one line each, columns separated by tabs, no headers."""
    if not on_terminal():
        for row in rows:
            say("\t".join(clean(_plain(cell)) for cell in row))
        return
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, header in enumerate(headers):
        # Only the last column is long text; the others lose their meaning when they are broken.
        shown.add_column(header, no_wrap=place < len(headers) - 1, overflow="fold")
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
    Console().print(shown)


def facts(pairs: Sequence[tuple[str, Cell]]) -> None:
    """Names and values, one a line; into a pipe separated by a tab. Empty values are left out."""
    kept = [(name, value) for name, value in pairs if _plain(value)]
    if not on_terminal():
        table((), kept)
        return
    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in kept:
        shown.add_row(name, value if isinstance(value, Text) else Text(clean(value)))
    Console().print(shown)


def verdict_text(word: str, verdict_class: str) -> Text:
    """A verdict (or a state) in the colour of its class."""
    return Text(word, style=STYLES.get(verdict_class, ""))


def clean(text: str) -> str:
    """The text without characters that would move the cursor or break a line."""
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def since(moment: datetime | None, now: datetime) -> str:
    """How long ago in words for people; the time itself into a pipe."""
    if moment is None:
        return ""
    if not on_terminal():
        return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return human_seconds(float(round(max(0.0, (now - moment).total_seconds()))))


def moment(at: datetime | None) -> str:
    """A time to come: that of the day, in UTC, for people; all of it into a pipe."""
    if at is None:
        return ""
    return f"{at.astimezone(UTC):%H:%M:%S} UTC" if on_terminal() else since(at, at)


def size(count: int | None) -> str:
    """A number of bytes for people; the number itself into a pipe."""
    if count is None:
        return ""
    return human_size(count) if on_terminal() else str(count)


@contextmanager
def transfer(what: str) -> Iterator[Told]:
    """A progress bar on standard error while bytes move, when a person is watching."""
    if not sys.stderr.isatty():
        yield no_progress
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(what, total=None, visible=False)

        def told(done: int, total: int, /) -> None:
            bars.update(bar, completed=done, total=total, visible=total > QUIET_BYTES)

        yield told


def _plain(cell: Cell) -> str:
    return cell.plain if isinstance(cell, Text) else cell
