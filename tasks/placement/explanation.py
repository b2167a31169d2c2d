"""Why a task waits, told by the same predicates by which `decide` places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tasks.placement.fits import (
    Need,
    Room,
    Supply,
    avoided,
    grid_reasons,
    licences_exist,
    never_reasons,
    now_reasons,
)
from tasks.placement.records import Demand, Explanation, NodeReason, NodeView, QueuedTask, Reservation
from tasks.placement.reservations import as_hold

_AVOIDED = "an earlier attempt failed here, and another node could run it"


def explain(
    demand: Demand,
    task: QueuedTask,
    nodes: Sequence[NodeView],
    licences: Mapping[str, int],
    now: float,
    reservations: Sequence[Reservation] = (),
) -> Explanation:
    """Say for every node why the task does not start there now; a node without reasons would take it.

    ``reservations`` are those of the last decision. The task starts in the next round if ``fits_now`` and nothing that
    is considered before it (see `position`) takes the place.
    """
    need = Need.of(demand, now)
    supply = Supply.of(nodes, licences)
    rooms = {node.name: Room.of(node) for node in nodes}
    for reservation in reservations:
        if reservation.task_id != task.id:
            hold = as_hold(reservation)
            supply.holds.append(hold)
            if reservation.node in rooms:
                rooms[reservation.node].hold = hold
    everywhere = tuple(grid_reasons(need, supply, now))
    owned = licences_exist(demand, supply)
    never = {name: tuple(never_reasons(need, room)) for name, room in rooms.items()}
    closed = avoided(task.avoid, [room for name, room in rooms.items() if not never[name]])
    per_node = []
    for name, room in sorted(rooms.items()):
        reasons = never[name] + tuple(now_reasons(need, room, now))
        if name in closed and not never[name]:
            reasons += (_AVOIDED,)
        reasons += everywhere
        per_node.append(NodeReason(name, not reasons, not never[name] and owned, reasons))
    return Explanation(tuple(per_node), _summary(per_node, everywhere), any(n.fits_ever for n in per_node), everywhere)


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
