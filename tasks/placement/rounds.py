"""One round of the dispatcher: `decide` says which queued tasks go to which nodes, and for whom nodes are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from tasks.placement.fits import Need, Room, Supply, could_run, grid_reasons, licences_exist
from tasks.placement.groups import Group, Openings, Taste
from tasks.placement.records import Backlog, Ceiling, Decision, NodeView, Placement, Policy, Reservation, Share
from tasks.placement.reservations import as_reservation, best_hold
from tasks.placement.shares import dominant_share, grid_capacity, ratio


def decide(
    backlogs: Sequence[Backlog],
    nodes: Sequence[NodeView],
    licences: Mapping[str, int],
    shares: Sequence[Share],
    now: float,
    policy: Policy | None = None,
) -> Decision:
    """Place as many queued tasks as fit now.

    Owners take turns, the one with the smallest dominant share by weight first; within an owner higher priority comes
    first, then the smaller ``seq``. What fits nowhere does not block those behind it, but once it has waited longer
    than the policy's patience a node is kept for it. ``licences`` are all that the grid owns; leases and placements
    use them. An owner at one of the policy's ceilings is left out. The same arguments give the same decision. The work
    grows with the number of demands and nodes, not with the length of the queue.
    """
    return _Round(nodes, licences, now, policy or Policy()).run(backlogs, shares)


@dataclass(slots=True, eq=False)
class _Cap:
    """A ceiling while a round goes on."""

    left: int


@dataclass(slots=True, eq=False)
class _Owner:
    name: str
    weight: float
    used: float
    caps: tuple[_Cap, ...] = ()
    groups: list[tuple[tuple[int, int, int], Group]] = field(default_factory=list)

    @property
    def capped(self) -> bool:
        """Whether nothing more of theirs may begin."""
        return any(cap.left <= 0 for cap in self.caps)

    @property
    def order(self) -> tuple[float, int, str]:
        """The rank among the owners, smallest first: ratio, then the age of the task that is next."""
        return ratio(self.used, self.weight), self.groups[0][1].head.seq, self.name


class _Round:
    def __init__(self, nodes: Sequence[NodeView], licences: Mapping[str, int], now: float, policy: Policy) -> None:
        self.now = now
        self.policy = policy
        self.nodes = nodes
        self.total = grid_capacity(nodes).vector()
        self.supply = Supply.of(nodes, licences)
        self.changed: list[Room] = []
        self.placements: list[Placement] = []
        self.placed: set[str] = set()

    def run(self, backlogs: Sequence[Backlog], shares: Sequence[Share]) -> Decision:
        capacities = [node.capacity.vector() for node in self.nodes] or [(1,) * 7]
        self.taste = Taste(
            max(1, *(vector[0] for vector in capacities), 1),
            max(1, *(vector[1] for vector in capacities), 1),
            any(backlog.demand.exclusive for backlog in backlogs),
        )
        groups = self._groups(backlogs)
        owners = _owners(groups, shares, self.policy.ceilings)
        self._keep_nodes_for_the_patient(owners)
        while owners and len(self.placements) < self.policy.max_placements:
            _, owner = heappop(owners)
            if owner.capped:
                continue
            _, group = heappop(owner.groups)
            self._serve(owner, group)
            if owner.groups:
                heappush(owners, (owner.order, owner))
        return Decision(
            tuple(self.placements),
            tuple(_binding(groups)),
            tuple(group.need.demand.key for group in groups if 0 < group.placed == len(group.heads) < group.count),
            full=bool(owners),
        )

    def _groups(self, backlogs: Sequence[Backlog]) -> list[Group]:
        """A group for each backlog that has tasks; groups that need the same look at nodes together."""
        kinds = self._kinds(frozenset().union(*(backlog.demand.requires for backlog in backlogs)))
        openings: dict[object, Openings] = {}
        abilities: dict[object, frozenset[int]] = {}
        groups = []
        for index, backlog in enumerate(backlogs):
            demand = backlog.demand
            if not backlog.heads or not licences_exist(demand, self.supply):
                continue
            need = Need.of(demand, self.now)
            asks = (need.vector, demand.gpu_memory, demand.requires, demand.runtime, demand.must_enforce)
            able = abilities.get(asks)
            if able is None:
                able = frozenset(number for number, rooms in enumerate(kinds) if could_run(need, rooms[0]))
                abilities[asks] = able
            shape = (need.vector, need.ends_by, demand.exclusive, able)
            if shape not in openings:
                openings[shape] = Openings(need, [room for number in sorted(able) for room in kinds[number]], able)
            heads = tuple(sorted(backlog.heads, key=lambda head: head.seq))
            groups.append(Group(need, heads, backlog.count, index, openings[shape]))
        return groups

    def _kinds(self, asked: frozenset[str]) -> list[list[Room]]:
        """The nodes, those together that could run the same tasks: only the tags that are asked for tell them apart."""
        kinds: dict[object, list[Room]] = {}
        for node in self.nodes:
            kind = (node.tags & asked, node.enforces, node.runtimes, node.capacity, node.gpu_memory)
            kinds.setdefault(kind, []).append(Room.of(node))
        for number, rooms in enumerate(kinds.values()):
            for room in rooms:
                room.kind = number
        return list(kinds.values())

    def _keep_nodes_for_the_patient(self, owners: list[tuple[tuple[float, int, str], _Owner]]) -> None:
        """Ask others to leave alone the nodes of long waiting tasks that fit on one node at most.

        Those served before such a task may still use the node if they have no other, for their share is due to them;
        when the task's turn comes and it is blocked, the reservation becomes binding for those behind it.
        """
        queue = sorted((order[0], *entry) for order, owner in owners for entry in owner.groups)
        for _, _, group in queue:
            if len(self.supply.holds) >= self.policy.max_reservations:
                return
            if self._deserves_hold(group) and group.openings.scarce(self.changed, self.taste):
                self._hold(group, binding=False)

    def _serve(self, owner: _Owner, group: Group) -> None:
        """Place the group's head, or let the group go for this round."""
        task = group.head
        if task.id in self.placed:
            _advance(owner, group)
            return
        room, only_avoided = None, False
        if next(grid_reasons(group.need, self.supply, self.now), None) is None:
            room, only_avoided = group.choose(self.changed, self.taste)
        if room is None:
            self._block(group)
            if only_avoided:  # the next ones of the group may go where this one must not
                _advance(owner, group)
            return
        if group.hold is not None and group.hold[1].task_id == task.id:
            self._release(group)
        self._place(owner, group, room)
        _advance(owner, group)

    def _place(self, owner: _Owner, group: Group, room: Room) -> None:
        need, task = group.need, group.head
        owner.used += dominant_share(room.takes(need), self.total)
        for cap in owner.caps:
            cap.left -= 1
        ends_at = need.ends_by + self.policy.margin_seconds
        room.place(need, ends_at)
        self.supply.place(need, ends_at)
        self.changed.append(room)
        self.placed.add(task.id)
        group.placed += 1
        self.placements.append(Placement(task.id, need.demand.key, room.node.name))

    def _block(self, group: Group) -> None:
        """The head does not start now: if it has waited long, a node is kept for it against all behind it."""
        if group.hold is not None and group.hold[1].binding:
            return
        if group.hold is not None:
            self._release(group)
        if len(self.supply.holds) < self.policy.max_reservations and self._deserves_hold(group):
            self._hold(group, binding=True)

    def _deserves_hold(self, group: Group) -> bool:
        """True when the head has waited long, and not for its twin: no node is of use to it before that one ends."""
        singleton = group.need.demand.singleton
        return (
            self.now - group.head.queued_at > self.policy.patience_seconds and singleton not in self.supply.singletons
        )

    def _hold(self, group: Group, binding: bool) -> None:
        found = best_hold(
            group.head, group.need, group.openings.candidates, self.supply, self.now, self.policy.margin_seconds
        )
        if found is not None:
            room, hold = found
            hold.binding = binding
            group.hold = found
            room.hold = hold
            self.supply.holds.append(hold)
            self._touch(room)

    def _release(self, group: Group) -> None:
        if group.hold is not None:
            room, hold = group.hold
            group.hold = room.hold = None
            self.supply.holds.remove(hold)
            self._touch(room)

    def _touch(self, room: Room) -> None:
        """Make the groups look at the node again."""
        room.version += 1
        self.changed.append(room)


def _owners(
    groups: Sequence[Group], shares: Sequence[Share], ceilings: Sequence[Ceiling]
) -> list[tuple[tuple[float, int, str], _Owner]]:
    """The heap of owners with something that some node could run, and that may begin something."""
    records = {share.owner: share for share in shares}
    caps = [(one.owners, _Cap(one.left)) for one in ceilings]
    owners: dict[str, _Owner] = {}
    for group in groups:
        if group.openings.candidates:
            name = group.need.demand.owner
            share = records.get(name, Share(name))
            own = tuple(cap for members, cap in caps if name in members)
            owner = owners.setdefault(name, _Owner(name, share.weight, share.used, own))
            heappush(owner.groups, (group.order, group))
    queue = [(owner.order, owner) for owner in owners.values() if not owner.capped]
    heapify(queue)
    return queue


def _advance(owner: _Owner, group: Group) -> None:
    """On to the group's next task, if there is one."""
    group.next += 1
    if group.next < len(group.heads):
        heappush(owner.groups, (group.order, group))


def _binding(groups: Sequence[Group]) -> Iterator[Reservation]:
    """The reservations that stand at the end of the round, in order of waiting."""
    holds = [group.hold for group in groups if group.hold is not None and group.hold[1].binding]
    for room, hold in sorted(holds, key=lambda pair: (pair[1].queued_at, pair[1].task_id)):
        yield as_reservation(room, hold)
