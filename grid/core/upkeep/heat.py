"""How busy each node was: samples of ten minutes, written by the dispatcher that leads and kept for some days."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction

from grid.core import snapshot
from grid.core.conf import conf
from grid.core.models import Node, NodeSample
from grid.core.records import Transaction
from tasks.placement import NodeView
from tasks.views import NodeSampleView

SLICE = timedelta(minutes=10)
LOOK = timedelta(minutes=1)
KEPT = timedelta(days=7)
DAY = timedelta(days=1)
_COLUMNS = ("online", "ready", "running", "cpus", "memory", "others")


def slice_of(moment: datetime) -> datetime:
    """The beginning of the ten minutes in which a moment lies."""
    return moment - timedelta(minutes=moment.minute % 10, seconds=moment.second, microseconds=moment.microsecond)


@dataclass(slots=True)
class _Sum:
    looks: int = 0
    values: list[float] = field(default_factory=lambda: [0.0] * len(_COLUMNS))

    def add(self, values: Sequence[float]) -> None:
        self.looks += 1
        self.values = [before + more for before, more in zip(self.values, values, strict=True)]

    def means(self) -> dict[str, float]:
        return {name: round(value / self.looks, 4) for name, value in zip(_COLUMNS, self.values, strict=True)}


class Sampler:
    """Looks at all nodes once a minute and keeps the mean of each ten minutes, in the process that leads.

    Another process that takes over within ten minutes begins their mean anew: it is a picture, no account.
    """

    def __init__(self) -> None:
        self._next: datetime | None = None
        self._at: datetime | None = None
        self._sums: dict[int, _Sum] = {}

    def step(self, now: datetime, moving: Transaction = transaction.atomic) -> int:
        """Look, if it is time to; return how many nodes were looked at."""
        if self._next is not None and now < self._next <= now + LOOK:
            return 0
        self._next = now + LOOK
        fresh = slice_of(now) != self._at
        if fresh:
            self._at, self._sums = slice_of(now), {}
        views = {view.name: view for view in snapshot.nodes(now, conf().run_grace_seconds)}
        rows = Node.objects.filter(removed_at=None).exclude(session="").only("name", "lease_until", "session")
        for node in rows:
            if view := views.get(node.name):
                self._sums.setdefault(node.pk, _Sum()).add(_looked(node, view, now))
        with moving():
            self._write(slice_of(now))
            if fresh:
                NodeSample.objects.filter(at__lt=now - KEPT).delete()
        return len(self._sums)

    def _write(self, at: datetime) -> None:
        found = [NodeSample(node_id=pk, at=at, looks=one.looks, **one.means()) for pk, one in self._sums.items()]
        NodeSample.objects.bulk_create(
            found,
            update_conflicts=True,
            unique_fields=["node", "at"],
            update_fields=["looks", *_COLUMNS],
            batch_size=200,
        )


def _looked(node: Node, view: NodeView, now: datetime) -> tuple[float, ...]:
    """The values of one look, in the order of the columns."""
    offered = view.capacity
    cpus = sum(lease.amounts.cpus for lease in view.leases)
    memory = sum(lease.amounts.memory for lease in view.leases)
    return (
        float(snapshot.online(node, now)),
        float(view.ready),
        float(len(view.leases)),
        _part(cpus, offered.cpus),
        _part(memory, offered.memory),
        _part(view.others_cpus, offered.cpus),
    )


def _part(amount: float, whole: float) -> float:
    return min(1.0, amount / whole) if whole > 0 else 0.0


def history(node: Node, since: datetime) -> list[NodeSampleView]:
    """The samples of a node from a moment on, oldest first."""
    rows = NodeSample.objects.filter(node=node, at__gte=since).order_by("at")
    return [_view(row) for row in rows]


class Moment(NamedTuple):
    """What a strip needs of a sample; plain, for a page draws thousands of them."""

    at: datetime
    looks: int
    online: float
    ready: float
    cpus: float
    memory: float


def last_day(names: Collection[str], now: datetime) -> Mapping[str, list[Moment]]:
    """The samples of the last day of these nodes, by name."""
    known = dict(Node.objects.filter(name__in=names).values_list("pk", "name"))
    found: dict[int, list[Moment]] = {pk: [] for pk in known}
    rows = NodeSample.objects.filter(node_id__in=known, at__gt=now - DAY).order_by("node_id", "at")
    for pk, *values in rows.values_list("node_id", *Moment._fields):
        found[pk].append(Moment._make(values))
    return {name: found[pk] for pk, name in known.items()}


def _view(row: NodeSample) -> NodeSampleView:
    values = {name: getattr(row, name) for name in _COLUMNS}
    return NodeSampleView(at=row.at, looks=row.looks, **values)


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of a strip: its place from the left and how wide it is, how busy the node was (0 to 9), and what to say.

    ``kind`` is "none" where nothing is known, "away" where it was not heard of, "closed" where it took no tasks.
    """

    place: int
    width: int
    kind: str
    level: int
    words: str


@dataclass(frozen=True, slots=True)
class Strip:
    """The last day of a node: cells, and the same in words for who does not see colours."""

    cells: tuple[Cell, ...]
    words: str


@dataclass(slots=True)
class _Part:
    """Samples that are next to each other in a strip, summed up; weighted by their looks."""

    looks: int = 0
    busy: float = 0.0
    online: float = 0.0
    ready: float = 0.0

    def add(self, one: Moment) -> None:
        self.looks += one.looks
        self.busy += max(one.cpus, one.memory) * one.looks
        self.online += one.online * one.looks
        self.ready += one.ready * one.looks

    def look(self) -> tuple[str, int]:
        """The kind and level of its cell."""
        if self.online < 0.5 * self.looks:
            return "away", 0
        return "closed" if self.ready < 0.5 * self.looks else "busy", min(9, int(10 * self.busy / self.looks))

    def words(self) -> str:
        kind, _ = self.look()
        if kind == "away":
            return "offline"
        return f"{self.busy / self.looks:.0%} busy" + (", took nothing new" if kind == "closed" else "")


def strip(samples: Sequence[Moment], now: datetime, width: int = 48) -> Strip:
    """The last day in ``width`` parts, the newest at the right; neighbours that look the same are one cell.

    A pure function of the samples and the time.
    """
    whole = DAY / width
    begin = slice_of(now) + SLICE - DAY
    parts: dict[int, _Part] = {}
    recent = [one for one in samples if one.at >= begin and one.looks]
    for one in recent:
        parts.setdefault(min(int((one.at - begin) / whole), width - 1), _Part()).add(one)
    cells: list[Cell] = []
    for place, part in sorted(parts.items()):
        kind, level = part.look()
        words = f"from {begin + place * whole:%H:%M} UTC: {part.words()}"
        last = cells[-1] if cells else None
        if last and (last.place + last.width, last.kind, last.level) == (place, kind, level):
            cells[-1] = replace(last, width=last.width + 1)
        else:
            cells.append(Cell(place, 1, kind, level, words))
    return Strip(tuple(cells), _in_words(recent))


def _in_words(samples: Sequence[Moment]) -> str:
    if not samples:
        return "nothing is known of the last day yet"
    whole = _Part()
    for one in samples:
        whole.add(one)
    most = max(samples, key=lambda one: max(one.cpus, one.memory))
    peak = f"{max(most.cpus, most.memory):.0%} at most (at {most.at:%H:%M} UTC)"
    away = 1 - whole.online / whole.looks
    words = f"{whole.busy / whole.looks:.0%} busy on average, {peak}"
    return words + (f", offline for {away:.0%} of the time" if away >= 0.005 else "")
