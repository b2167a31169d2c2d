"""Backlogs while a round goes on: which task is next, and which of the nodes that take it now is best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import islice

from tasks.placement.fits import Hold, Need, Room, avoided, fits
from tasks.placement.records import DIMENSIONS, MICRO, QueuedTask

Rank = tuple[bool, bool, bool, bool, float, str]

_CPUS, _MEMORY, _GPUS = (DIMENSIONS.index(name) for name in ("cpus", "memory", "gpus"))


@dataclass(frozen=True, slots=True)
class Taste:
    """Which of the nodes that fit is best: the one that afterwards has the least left, so that large holes stay whole.

    Before that: not one that is kept for somebody; not one with gpus for a task without; where tasks that must be alone
    wait (``spare_empty``), not an empty one; and none of which a fraction of a core would be cut off a whole free core.
    """

    largest_cpus: int
    largest_memory: int
    spare_empty: bool

    def rank(self, need: Need, room: Room) -> Rank:
        """The smallest is best; the node's name makes it unique."""
        cpus, free = need.vector[_CPUS], room.free[_CPUS]
        return (
            room.hold is not None,
            room.capacity[_GPUS] > 0 and need.vector[_GPUS] == 0,
            self.spare_empty and room.tasks == 0,
            free // MICRO - (free - cpus) // MICRO > cpus // MICRO,
            (free - cpus) / self.largest_cpus + (room.free[_MEMORY] - need.vector[_MEMORY]) / self.largest_memory,
            room.node.name,
        )


@dataclass(slots=True, eq=False)
class Openings:
    """A heap of the nodes that take a task of one shape now, best first; demands that need the same share it.

    ``candidates`` are all nodes that could ever run such a task, those of the ``kinds``. Entries of an older version of
    their node are void; ``seen`` is how much of the round's log of changed nodes the heap takes into account.
    """

    need: Need
    candidates: list[Room]
    kinds: frozenset[int]
    seen: int = 0
    heap: list[tuple[Rank, int, Room]] | None = None

    def scarce(self, changed: list[Room], taste: Taste) -> bool:
        """True when at most one node is open."""
        valid = (entry for entry in self._fresh(changed, taste) if entry[1] == entry[2].version)
        return len(tuple(islice(valid, 2))) <= 1

    def choose(self, closed: frozenset[str], changed: list[Room], taste: Taste) -> tuple[Room | None, bool]:
        """The best node outside ``closed``, and whether only nodes inside it are open."""
        heap = self._fresh(changed, taste)
        aside: list[tuple[Rank, int, Room]] = []
        found: Room | None = None
        while heap and found is None:
            entry = heappop(heap)
            if entry[1] == entry[2].version:
                aside.append(entry)
                found = None if entry[2].node.name in closed else entry[2]
        for entry in aside:
            heappush(heap, entry)
        return found, found is None and bool(aside)

    def _fresh(self, changed: list[Room], taste: Taste) -> list[tuple[Rank, int, Room]]:
        """The heap, brought up to date with the nodes that changed since the last look."""
        if self.heap is None:
            self.heap = self._entries(self.candidates, taste)
            heapify(self.heap)
        elif self.seen < len(changed):
            news = (room for room in dict.fromkeys(changed[self.seen :]) if room.kind in self.kinds)
            for entry in self._entries(news, taste):
                heappush(self.heap, entry)
        self.seen = len(changed)
        return self.heap

    def _entries(self, rooms: Iterable[Room], taste: Taste) -> list[tuple[Rank, int, Room]]:
        need = self.need
        return [(taste.rank(need, room), room.version, room) for room in rooms if fits(need, room)]


@dataclass(slots=True, eq=False)
class Group:
    """The tasks of one demand; ``hold`` is the node that is kept for one of them."""

    need: Need
    heads: tuple[QueuedTask, ...]
    count: int
    index: int
    openings: Openings
    next: int = 0
    placed: int = 0
    hold: tuple[Room, Hold] | None = None

    @property
    def head(self) -> QueuedTask:
        """The task whose turn it is."""
        return self.heads[self.next]

    @property
    def order(self) -> tuple[int, int, int]:
        """The rank among the groups of one owner, smallest first."""
        return -self.need.demand.priority, self.head.seq, self.index

    def choose(self, changed: list[Room], taste: Taste) -> tuple[Room | None, bool]:
        """The best node for the head, and whether only nodes that it must avoid are open."""
        if self.hold is not None:
            room, hold = self.hold
            if hold.task_id == self.head.id and fits(self.need, room):
                return room, False
        return self.openings.choose(avoided(self.head.avoid, self.openings.candidates), changed, taste)
