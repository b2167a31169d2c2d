"""What an attempt used over time, as lines to draw: pure, in the units of a 600 by 120 picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from tasks.limits import Limits
from tasks.outcome import Usage, UsagePoint
from tasks.units import human_seconds, human_size

WIDTH, HEIGHT = 600.0, 120.0
MOST_ROWS = 20
# A limit that is many times what was used would press the line flat against the ground: it is only told then.
_FAR = 4.0
_HEADROOM = 1.08

Dots = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a plot: ``points`` as SVG wants them, ``words`` name it where a plot has two."""

    name: str
    words: str
    points: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: ``top`` is what its upper edge means; ``limit_y`` is None without a limit, or one far above."""

    name: str
    title: str
    summary: str
    top: str
    lines: tuple[Line, ...]
    limit_y: str | None = None
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what the plots show, in words."""

    at: str
    memory: str
    cpus: str
    pids: str
    read: str
    written: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """All plots of an attempt, the time at their right edge, and their numbers."""

    plots: tuple[Plot, ...]
    end: str
    rows: tuple[Row, ...]


def pictures(usage: Usage, limits: Limits) -> Pictures | None:
    """The plots of a series; None for one too short to draw."""
    series = [point for point in usage.series if point.t > 0]
    if len(series) < 2:
        return None
    draw = _Drawing(max(series[-1].t, usage.wall_seconds))
    memory = [(one.t, float(one.memory_bytes)) for one in series]
    cpus = _rates(series, lambda one: one.cpu_seconds)
    pids = [(one.t, float(one.pids)) for one in series]
    plots = [
        draw.plot("memory", "Memory", [("memory", memory)], _bytes, limits.memory),
        draw.plot("cpus", "Processors", [("cpus", cpus)], _amount, limits.cpus),
        draw.plot("pids", "Processes", [("pids", pids)], _whole, limits.pids),
    ]
    if any(one.io_read_bytes or one.io_write_bytes for one in series):
        read = _rates(series, lambda one: one.io_read_bytes or 0)
        written = _rates(series, lambda one: one.io_write_bytes or 0)
        plots.append(draw.plot("io", "Disk", [("read", read), ("written", written)], _speed, None))
    return Pictures(tuple(plots), human_seconds(draw.whole), tuple(_rows(series)))


class _Drawing:
    """Draws over one span of time."""

    def __init__(self, whole: float) -> None:
        self.whole = whole

    def plot(
        self,
        name: str,
        title: str,
        found: list[tuple[str, Dots]],
        words: Callable[[float], str],
        limit: float | None,
    ) -> Plot:
        """One plot; rates are drawn as steps, amounts from point to point."""
        peak = max(value for _, dots in found for _, value in dots)
        near = limit is not None and limit <= max(peak, 1e-9) * _FAR
        top = max(peak, limit or 0.0 if near else 0.0) * _HEADROOM or 1.0
        lines = tuple(Line(line, line if len(found) > 1 else "", self._points(dots, top)) for line, dots in found)
        peaks = ", ".join(
            f"{line} up to {words(max(value for _, value in dots))}" if len(found) > 1 else f"up to {words(peak)}"
            for line, dots in found
        )
        told = "" if limit is None else f"limit {words(limit)}" + ("" if near else ", far above")
        y = f"{HEIGHT * (1 - limit / top):.1f}" if limit is not None and near else None
        summary = f"{peaks}; {told}" if told else peaks
        return Plot(name, title, summary, words(top), lines, y, told)

    def _points(self, dots: Dots, top: float) -> str:
        return " ".join(f"{at / self.whole * WIDTH:.1f},{HEIGHT * (1 - value / top):.1f}" for at, value in dots)


def _rates(series: Iterable[UsagePoint], total: Callable[[UsagePoint], float]) -> Dots:
    """How fast a sum grew between each two points, as steps; before the first one since the start."""
    sums = [(0.0, 0.0), *((one.t, float(total(one))) for one in series)]
    dots: Dots = []
    for (before, low), (after, high) in pairwise(sums):
        if after > before:
            rate = max(0.0, high - low) / (after - before)
            dots += [(before, rate), (after, rate)]
    return dots


def _rows(series: list[UsagePoint]) -> Iterable[Row]:
    """Some of the points, evenly spread, the last one among them."""
    step = -(-len(series) // MOST_ROWS)
    before = UsagePoint(t=0.0, memory_bytes=0, cpu_seconds=0.0, pids=0, io_read_bytes=0, io_write_bytes=0)
    for one in series[(len(series) - 1) % step :: step]:
        span = max(one.t - before.t, 1e-6)
        yield Row(
            at=human_seconds(one.t),
            memory=human_size(one.memory_bytes),
            cpus=_amount(max(0.0, one.cpu_seconds - before.cpu_seconds) / span),
            pids=str(one.pids),
            read=_grown(before.io_read_bytes, one.io_read_bytes, span),
            written=_grown(before.io_write_bytes, one.io_write_bytes, span),
        )
        before = one


def _grown(before: int | None, now: int | None, span: float) -> str:
    return "" if now is None else _speed(max(0, now - (before or 0)) / span)


def _bytes(value: float) -> str:
    return human_size(round(value))


def _speed(value: float) -> str:
    return f"{human_size(round(value))}/s"


def _amount(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _whole(value: float) -> str:
    return str(round(value))
