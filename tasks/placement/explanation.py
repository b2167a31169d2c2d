"""Why a task waits, told by the same predicates by which `decide` places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tasks.placement.fits import (
    Need,
    Room,
    Supply,
    avoided,
    could_run,
    fits,
    grid_reasons,
    licences_exist,
    never_reasons,
    now_reasons,
)
from tasks.placement.records import Demand, Explanation, NodeReason, NodeView, QueuedTask, Reservation
from tasks.placement.reservations import as_hold

_AVOIDED = "an earlier attempt failed here, and another node could run it"


class Explainer:
    """Explains one scene: many tasks at the price of reading the nodes and their leases once.

    ``reservations`` are those of the last decision.
    """

    def __init__(
        self,
        nodes: Sequence[NodeView],
        licences: Mapping[str, int],
        now: float,
        reservations: Sequence[Reservation] = (),
    ) -> None:
        self._now = now
        self._reservations = reservations
        self._supply = Supply.of(nodes, licences)
        self._rooms = {node.name: Room.of(node) for node in nodes}

    def explain(self, demand: Demand, task: QueuedTask) -> Explanation:
        """Say for every node why the task does not start there now; a node without reasons would take it.

        The task starts in the next round if ``fits_now`` and nothing that is considered before it (see `position`)
        takes the place.
        """
        need, supply, rooms = Need.of(demand, self._now), self._supply, self._rooms
        self._hold_for_others(task)
        everywhere = tuple(grid_reasons(need, supply, self._now))
        owned = licences_exist(demand, supply)
        # Most nodes have none: to ask whether there are any costs a third of writing them.
        never = {
            name: () if could_run(need, room) else tuple(never_reasons(need, room)) for name, room in rooms.items()
        }
        closed = avoided(task.avoid, [room for name, room in rooms.items() if not never[name]])
        per_node = []
        for name, room in sorted(rooms.items()):
            reasons = never[name] + (() if fits(need, room) else tuple(now_reasons(need, room, self._now)))
            if name in closed and not never[name]:
                reasons += (_AVOIDED,)
            reasons += everywhere
            per_node.append(NodeReason(name, not reasons, not never[name] and owned, reasons))
        able = any(node.fits_ever for node in per_node)
        return Explanation(tuple(per_node), _summary(per_node, everywhere), able, everywhere)

    def _hold_for_others(self, task: QueuedTask) -> None:
        """Keep what is reserved for other tasks than this one."""
        self._supply.holds.clear()
        for reservation in self._reservations:
            if reservation.node in self._rooms:
                self._rooms[reservation.node].hold = None
        for reservation in self._reservations:
            if reservation.task_id != task.id:
                hold = as_hold(reservation)
                self._supply.holds.append(hold)
                if reservation.node in self._rooms:
                    self._rooms[reservation.node].hold = hold


def explain(
    demand: Demand,
    task: QueuedTask,
    nodes: Sequence[NodeView],
    licences: Mapping[str, int],
    now: float,
    reservations: Sequence[Reservation] = (),
) -> Explanation:
    """The same for one task alone."""
    return Explainer(nodes, licences, now, reservations).explain(demand, task)


def _summary(per_node: Sequence[NodeReason], everywhere: tuple[str, ...]) -> str:
    """One sentence: that it can start, that it never can, or what is most often in the way."""
    if not per_node:
        return "the grid has no nodes"
    able = [node for node in per_node if node.fits_ever]
    ready = sum(node.fits_now for node in per_node)
    if ready:
        return f"{_nodes(ready)} of {len(per_node)} would take it now: it waits for its turn"
    if everywhere:
        return ("can never run: " if not able else "waits: ") + "; ".join(everywhere)
    if not able:
        return f"no node can ever run it: {_most_common(per_node)}"
    only = "" if len(able) == len(per_node) else f"{_nodes(len(able))} of {len(per_node)} could run it, but "
    return f"waits for room: {only}{_most_common(able)}"


def _most_common(nodes: Sequence[NodeReason]) -> str:
    """The first reason of each node, the most frequent ones with their numbers."""
    counts = Counter(node.reasons[0] for node in nodes)
    parts = [reason if len(nodes) == 1 else f"{reason} ({_nodes(number)})" for reason, number in counts.most_common(3)]
    return "; ".join(parts) + ("; ..." if len(counts) > len(parts) else "")


def _nodes(number: int) -> str:
    return "1 node" if number == 1 else f"{number} nodes"
