"""Reservations for tasks that wait long (EASY backfill): where one can start soonest, and what others may use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import gt

from tasks.placement.fits import Hold, Need, Room, Supply, avoided, minus, plus
from tasks.placement.records import DIMENSIONS, Amounts, QueuedTask, Reservation, Vector

_GPUS = DIMENSIONS.index("gpus")


def best_hold(
    task: QueuedTask, need: Need, candidates: Sequence[Room], supply: Supply, now: float, margin_seconds: float
) -> tuple[Room, Hold] | None:
    """The node among ``candidates`` (those that could run the task) on which it can start soonest, and the terms.

    ``margin_seconds`` is what others need at most beside their time limits. Nodes that are kept for somebody else or
    that are not ready do not count; None when there is no other, or when the licences are bespoken. Ties go to nodes
    without gpus that the task does not need, then by name.
    """
    licences_at = _licences_at(need, supply, now)
    if licences_at is None:
        return None
    closed = avoided(task.avoid, candidates)
    best: tuple[tuple[float, bool, str], Room] | None = None
    for room in candidates:
        if not room.node.ready or room.hold is not None or room.node.name in closed:
            continue
        starts_at = max(_room_at(need, room, now), licences_at)
        rank = (starts_at, room.capacity[_GPUS] > 0 and need.demand.gpus == 0, room.node.name)
        if best is None or rank < best[0]:
            best = (rank, room)
    if best is None:
        return None
    (starts_at, _, _), room = best
    free = minus(room.capacity, _sum((taken for end, taken in room.ends if end > starts_at), room.capacity))
    resources = dict(need.demand.resources)
    return room, Hold(
        task_id=task.id,
        demand_key=need.demand.key,
        queued_at=task.queued_at,
        starts_at=starts_at,
        free_by=starts_at - margin_seconds,
        spare=minus(free, room.takes(need)),
        spare_resources={name: _free(name, supply, starts_at) - number for name, number in resources.items()},
        resources=resources,
    )


def as_reservation(room: Room, hold: Hold) -> Reservation:
    """The hold as a record for others to read."""
    spare = tuple(sorted((name, max(0, number)) for name, number in hold.spare_resources.items()))
    return Reservation(
        task_id=hold.task_id,
        demand_key=hold.demand_key,
        node=room.node.name,
        queued_at=hold.queued_at,
        starts_at=hold.starts_at,
        free_by=hold.free_by,
        spare=Amounts.of(tuple(max(0, value) for value in hold.spare)),
        spare_resources=spare,
    )


def as_hold(reservation: Reservation) -> Hold:
    """The other way round, for `explain`."""
    return Hold(
        task_id=reservation.task_id,
        demand_key=reservation.demand_key,
        queued_at=reservation.queued_at,
        starts_at=reservation.starts_at,
        free_by=reservation.free_by,
        spare=reservation.spare.vector(),
        spare_resources=dict(reservation.spare_resources),
        resources={},
    )


def _room_at(need: Need, room: Room, now: float) -> float:
    """When the task fits on the node if nothing else is placed there and nothing ends before its time.

    Infinity: only when others than the grid use less of it.
    """
    free = minus(room.usable, _sum((taken for _, taken in room.ends), room.capacity))
    left = len(room.ends)
    must_empty = need.demand.exclusive or room.exclusive
    when = now
    for end, taken in sorted(room.ends):
        if not (must_empty and left) and not any(map(gt, need.vector, free)) and end > when:
            return when
        when = max(when, end)
        free = plus(free, taken)
        left -= 1
    return math.inf if any(map(gt, need.vector, free)) else when


def _licences_at(need: Need, supply: Supply, now: float) -> float | None:
    """When the licences are free, those promised to others left out; None when they never are."""
    latest = now
    for name, number in need.demand.resources:
        ends = sorted({now, *(max(now, end) for end, other, _ in supply.ends if other == name)})
        when = next((end for end in ends if _free(name, supply, end) >= number), None)
        if when is None:
            return None
        latest = max(latest, when)
    return latest


def _free(name: str, supply: Supply, when: float) -> int:
    taken = sum(number for end, other, number in supply.ends if other == name and end > when)
    promised = sum(hold.resources.get(name, 0) for hold in supply.holds)
    return supply.total.get(name, 0) - taken - promised


def _sum(vectors: Iterable[Vector], like: Vector) -> Vector:
    return tuple(map(sum, zip(tuple(0 for _ in like), *vectors, strict=True)))
