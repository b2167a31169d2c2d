"""Nobody waits for ever: reservations for the big ones, and fair shares over time, shown on simulated grids."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from tasks.placement import (
    Backlog,
    Decision,
    Demand,
    Lease,
    NodeView,
    Policy,
    QueuedTask,
    current_shares,
    decide,
    explain,
)
from tests.support.placement import NOW, a_backlog, a_demand, a_lease, a_node, decided, where

BIG = a_demand("big", cpus=4)
SMALL = a_demand("small", cpus=1, time_seconds=10)
LONG = a_demand("long", cpus=1, time_seconds=3600)
ENDLESS = a_demand("endless", cpus=1, time_seconds=None)


def busy(cpus: float, seconds: float | None) -> Lease:
    return a_lease(a_demand(cpus=cpus), ends_at=None if seconds is None else NOW + seconds)


class TestReservations:
    NODE = a_node("node", busy(1, 100))

    def behind_big(self, demand: Demand, *nodes: NodeView, big: Demand = BIG, waited: float = 61) -> Decision:
        return decided([a_backlog(big, waited=waited), a_backlog(demand, 9, first=2)], nodes or [self.NODE])

    def test_a_big_task_that_has_waited_long_gets_a_node_kept_for_it(self) -> None:
        decision = self.behind_big(LONG)
        assert not decision.placements
        (reservation,) = decision.reservations
        assert (reservation.task_id, reservation.node, reservation.starts_at) == ("big-1", "node", NOW + 100)

    def test_one_that_has_not_waited_long_does_not(self) -> None:
        decision = self.behind_big(LONG, waited=60)
        assert len(decision.placements) == 3
        assert not decision.reservations

    def test_tasks_that_are_surely_gone_by_then_may_use_the_node(self) -> None:
        assert len(self.behind_big(SMALL).placements) == 3

    def test_of_tasks_that_differ_only_in_their_time_the_short_one_may(self) -> None:
        backlogs = [a_backlog(BIG, waited=99), a_backlog(SMALL, first=2), a_backlog(LONG, first=3)]
        assert where(decided(backlogs, [self.NODE])) == {"small-2": "node"}

    def test_a_task_that_needs_the_margin_to_be_gone_may_not(self) -> None:
        assert not self.behind_big(replace(SMALL, time_seconds=70)).placements
        assert self.behind_big(replace(SMALL, time_seconds=69)).placements

    def test_endless_tasks_may_only_take_what_is_left_over(self) -> None:
        assert len(self.behind_big(ENDLESS, big=a_demand("big", cpus=3.5), waited=99).placements) == 0
        assert len(self.behind_big(ENDLESS, a_node("node", busy(3, 100), cpus=5), waited=99).placements) == 1

    def test_one_that_must_be_alone_does_not_take_the_place_either(self) -> None:
        alone = a_demand("alone", exclusive=True, cpus=0, memory=0, pids=0, time_seconds=None)
        blocked = a_demand("big", cpus=4, resources=(("matlab", 1),))
        node, other = a_node(), a_node("other", busy(1, 500), a_lease(blocked, ends_at=NOW + 50))
        backlogs = [a_backlog(blocked, waited=99), a_backlog(alone, first=2)]
        assert not decided(backlogs, [node, other], licences={"matlab": 1}).placements
        assert where(decided(backlogs[1:], [node, other], licences={"matlab": 1})) == {"alone-2": "node"}

    def test_the_node_where_it_starts_soonest_is_kept_and_the_others_are_not(self) -> None:
        nodes = [
            a_node("late", busy(2, 900)),
            a_node("soon", busy(1, 300), busy(1, 400)),
            a_node("never", busy(3, None)),
        ]
        decision = self.behind_big(LONG, *nodes)
        assert decision.reservations[0].node == "soon"
        assert decision.reservations[0].starts_at == NOW + 400
        assert set(where(decision).values()) == {"late", "never"}

    def test_unknown_ends_count_as_last(self) -> None:
        decision = self.behind_big(ENDLESS, a_node("node", busy(1, None)))
        assert decision.reservations[0].starts_at == math.inf
        assert not decision.placements

    def test_leases_that_should_have_ended_are_about_to(self) -> None:
        assert self.behind_big(SMALL, a_node("node", busy(1, -5))).reservations[0].starts_at == NOW

    def test_one_that_must_be_alone_waits_until_the_node_is_empty(self) -> None:
        alone = a_demand("alone", exclusive=True)
        nodes = [a_node("node", busy(0, 50), busy(0, 70)), a_node("other", a_lease(alone, ends_at=NOW + 60))]
        decision = self.behind_big(LONG, *nodes, big=alone)
        assert (decision.reservations[0].node, decision.reservations[0].starts_at) == ("other", NOW + 60)
        assert set(where(decision).values()) == {"node"}
        assert self.behind_big(LONG, nodes[0], big=alone).reservations[0].starts_at == NOW + 70

    def test_a_node_with_gpus_is_kept_for_those_who_need_one_if_another_is_as_soon(self) -> None:
        nodes = [a_node("a-gpu", busy(1, 9), gpus=1), a_node("plain", busy(1, 9)), a_node("away", ready=False)]
        assert self.behind_big(LONG, *nodes).reservations[0].node == "plain"
        assert self.behind_big(LONG, *nodes, big=replace(BIG, gpus=1)).reservations[0].node == "a-gpu"

    def test_nodes_on_which_the_task_failed_are_not_kept_for_it(self) -> None:
        backlog = replace(a_backlog(BIG), heads=(QueuedTask("big-1", 1, NOW - 99, frozenset({"bad"})),))
        nodes = [a_node("bad"), a_node("good", busy(1, 500))]
        assert decided([backlog], nodes).reservations[0].node == "good"

    def test_the_node_stays_kept_for_the_oldest_of_a_demand(self) -> None:
        heads = tuple(QueuedTask(f"big-{seq}", seq, NOW - 99, frozenset({"bad"})) for seq in (1, 2))
        nodes = [a_node("bad"), a_node("good", busy(1, 500))]
        decision = decided([Backlog(BIG, heads, 2)], nodes)
        assert [(one.task_id, one.node) for one in decision.reservations] == [("big-1", "good")]

    def test_one_of_a_demand_may_pass_another_and_leaves_it_its_reservation(self) -> None:
        heads = (QueuedTask("big-1", 1, NOW - 99, frozenset({"bad"})), QueuedTask("big-2", 2, NOW - 99))
        decision = decided([Backlog(BIG, heads, 2)], [a_node("bad"), a_node("good", busy(1, 500))])
        assert where(decision) == {"big-2": "bad"}
        assert [(one.task_id, one.node) for one in decision.reservations] == [("big-1", "good")]

    def test_a_task_that_starts_gives_its_reservation_back(self) -> None:
        tagged = a_demand("tagged", cpus=4, requires=frozenset({"fast"}))
        nodes = [a_node("fast", tags=frozenset({"fast"})), a_node("slow", busy(1, 100))]
        backlogs = [a_backlog(tagged, waited=99), a_backlog(BIG, waited=99, first=2)]
        decision = decided(backlogs, nodes, policy=Policy(max_reservations=1))
        assert where(decision) == {"tagged-1": "fast"}
        assert [one.task_id for one in decision.reservations] == ["big-2"]

    def test_it_also_holds_against_those_who_looked_at_the_node_before(self) -> None:
        backlogs = [
            a_backlog(replace(LONG, key="first", priority=1)),
            a_backlog(a_demand("wide", cpus=3, priority=2, time_seconds=100), 2, first=2),
            a_backlog(BIG, first=4, waited=99),
            a_backlog(LONG, first=5),
        ]
        decision = decided(backlogs, [a_node("n1"), a_node("n2")])
        assert where(decision) == {"wide-2": "n1", "wide-3": "n2", "first-1": "n1"}
        assert decision.reservations[0].node == "n2"

    def test_nobody_joins_a_task_that_is_alone_so_the_node_is_free_when_that_ends(self) -> None:
        node = a_node("node", a_lease(a_demand("alone", exclusive=True), ends_at=NOW + 100))
        assert self.behind_big(SMALL, node, big=a_demand("big", cpus=2)).reservations[0].starts_at == NOW + 100

    def test_their_number_is_bounded(self) -> None:
        nodes = [a_node(f"n{number}", busy(1, 100)) for number in range(9)]
        backlogs = [a_backlog(a_demand(f"big{number}", cpus=4), waited=99) for number in range(9)]
        assert len(decided(backlogs, nodes).reservations) == 4
        assert len({reservation.node for reservation in decided(backlogs, nodes).reservations}) == 4
        assert not decided(backlogs, nodes, policy=Policy(max_reservations=0)).reservations

    def test_a_second_big_task_gets_none_where_no_node_is_left(self) -> None:
        backlogs = [a_backlog(BIG, waited=99), a_backlog(a_demand("huge", cpus=4), waited=99, first=2)]
        assert [one.task_id for one in decided(backlogs, [self.NODE]).reservations] == ["big-1"]

    def test_no_node_is_kept_for_a_task_whose_twin_is_running(self) -> None:
        twin = a_demand("twin", singleton="one")
        node = a_node("node", a_lease(twin))
        assert not decided([a_backlog(twin, waited=99)], [node]).reservations

    def test_a_task_served_earlier_takes_another_node_if_it_can_and_this_one_if_it_must(self) -> None:
        other_owner = a_demand("bob", owner="bob", time_seconds=3600)
        shares = current_shares([], past={"ann": 0.9})
        backlogs = [a_backlog(BIG, waited=99), a_backlog(other_owner, first=2)]
        large = a_node("large", cpus=16, slots=16, ready=True)
        tagged = replace(backlogs[0], demand=replace(BIG, requires=frozenset({"fast"})))
        fast = a_node("fast", busy(1, 100), tags=frozenset({"fast"}))
        assert where(decided([tagged, backlogs[1]], [fast, large], shares=shares)) == {"bob-2": "large"}
        assert where(decided([tagged, backlogs[1]], [fast], shares=shares)) == {"bob-2": "fast"}

    def test_explain_names_the_task_for_which_a_node_is_kept(self) -> None:
        decision = self.behind_big(LONG)
        task, big = QueuedTask("long-2", 2, NOW), QueuedTask("big-1", 1, NOW - 61)
        told = explain(LONG, task, [self.NODE], {}, NOW, decision.reservations)
        assert told.per_node[0].reasons == ("reserved for task big-1 (waiting for 1min 1s)",)
        assert explain(SMALL, task, [self.NODE], {}, NOW, decision.reservations).fits_now
        own = explain(BIG, big, [self.NODE], {}, NOW, decision.reservations)
        assert own.per_node[0].reasons == ("3 of 4 cpus are free, needs 4",)
        gone = replace(decision.reservations[0], node="gone")
        assert explain(LONG, task, [self.NODE], {}, NOW, [gone]).fits_now


class TestLicencesThatManySmallOnesWant:
    BIG = a_demand("big", resources=(("matlab", 3),))
    SMALL = a_demand("small", resources=(("matlab", 1),), time_seconds=3600)

    def nodes(self) -> list[NodeView]:
        return [a_node("node", a_lease(self.SMALL, ends_at=NOW + 100)), a_node("other")]

    def test_they_are_kept_too(self) -> None:
        backlogs = [a_backlog(self.BIG, waited=99), a_backlog(self.SMALL, 9, first=2)]
        decision = decided(backlogs, self.nodes(), licences={"matlab": 3})
        assert not decision.placements
        assert decision.reservations[0].starts_at == NOW + 100
        assert decision.reservations[0].spare_resources == (("matlab", 0),)
        task = QueuedTask("small-2", 2, NOW)
        told = explain(self.SMALL, task, self.nodes(), {"matlab": 3}, NOW, decision.reservations)
        assert told.grid_reasons == ("licence matlab: reserved for task big-1 (waiting for 1min 39s)",)

    def test_those_to_spare_are_not(self) -> None:
        backlogs = [a_backlog(self.BIG, waited=99), a_backlog(self.SMALL, 9, first=2)]
        nodes = [
            a_node("node", a_lease(replace(self.BIG, resources=(("matlab", 2),)), ends_at=NOW + 50)),
            a_node("other"),
        ]
        assert len(decided(backlogs, nodes, licences={"matlab": 4}).placements) == 1

    def test_what_is_promised_to_one_is_not_promised_to_the_next(self) -> None:
        backlogs = [a_backlog(self.BIG, waited=99), a_backlog(replace(self.BIG, key="next"), first=2, waited=99)]
        decision = decided(backlogs, self.nodes(), licences={"matlab": 3})
        assert [one.task_id for one in decision.reservations] == ["big-1"]


@dataclass
class Grid:
    """A grid that is simulated second by second: it starts what `decide` says and ends it after its time."""

    nodes: list[NodeView]
    now: float = NOW
    queue: list[tuple[Demand, QueuedTask]] = field(default_factory=list)
    started: dict[str, float] = field(default_factory=dict)
    running: dict[str, tuple[float, str, Lease]] = field(default_factory=dict)
    sequence: int = 0

    def submit(self, demand: Demand, number: int = 1) -> list[str]:
        """Queue tasks; returns their ids."""
        names = []
        for _ in range(number):
            self.sequence += 1
            names.append(f"{demand.key}-{self.sequence}")
            self.queue.append((demand, QueuedTask(names[-1], self.sequence, self.now)))
        return names

    def second(self, lasts: Callable[[str], float]) -> None:
        """One second: end what is over, decide, start."""
        self.now += 1
        self.running = {name: entry for name, entry in self.running.items() if entry[0] > self.now}
        nodes = [
            replace(node, leases=tuple(lease for _, where, lease in self.running.values() if where == node.name))
            for node in self.nodes
        ]
        decision = decide(self.backlogs(), nodes, {}, current_shares(nodes), self.now, Policy())
        demands = {task.id: demand for demand, task in self.queue}
        for placement in decision.placements:
            demand = demands[placement.task_id]
            limit = None if demand.time_seconds is None else self.now + demand.time_seconds
            lease = a_lease(demand, placement.task_id, ends_at=limit)
            self.running[placement.task_id] = (self.now + lasts(placement.task_id), placement.node, lease)
            self.started[placement.task_id] = self.now
        self.queue = [entry for entry in self.queue if entry[1].id not in self.started]

    def backlogs(self) -> list[Backlog]:
        """The queue by demand, twenty heads of each."""
        groups: dict[Demand, list[QueuedTask]] = {}
        for demand, task in self.queue:
            groups.setdefault(demand, []).append(task)
        return [Backlog(demand, tuple(tasks[:20]), len(tasks)) for demand, tasks in groups.items()]


@pytest.mark.parametrize("limit", [25.0, None], ids=["with a time limit", "without"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_big_task_starts_within_bounded_time_under_a_stream_of_small_ones(
    limit: float | None, exclusive: bool
) -> None:
    grid = Grid([a_node(f"n{number}") for number in range(3)])
    small = a_demand("small", cpus=1, time_seconds=limit)
    for _ in range(30):
        grid.submit(small, 2)
        grid.second(lambda name: 5 + int(name.split("-")[1]) % 20)
    (big,) = grid.submit(a_demand("big", cpus=1 if exclusive else 4, exclusive=exclusive, time_seconds=50))
    submitted = grid.now
    while big not in grid.started and grid.now < submitted + 500:
        grid.submit(small, 2)
        grid.second(lambda name: 5 + int(name.split("-")[1]) % 20)
    waited = grid.started[big] - submitted
    assert waited <= Policy().patience_seconds + 25 + 2, "patience, and the longest task that ran there"
    assert waited > 10, "the stream was too thin to hold the big one up, so this shows nothing"


def test_a_big_task_starts_although_an_owner_with_a_smaller_share_trickles_small_ones() -> None:
    grid = Grid([a_node(f"n{number}") for number in range(3)])
    steady, trickle = a_demand("steady", owner="ann", cpus=1, time_seconds=5000), a_demand("trickle", owner="bob")
    grid.submit(steady, 4)
    (big,) = grid.submit(a_demand("big", owner="ann", cpus=4))
    grid.submit(trickle, 3)
    for second in range(400):
        if second % 15 == 0:
            grid.submit(trickle, 2)
        grid.second(lambda name: 5000 if name.startswith("steady") else 59)
    assert grid.started[big] - NOW <= 200


def test_bob_with_ten_tasks_does_not_wait_behind_the_thousand_of_ann() -> None:
    grid = Grid([a_node(f"n{number}") for number in range(2)])
    grid.submit(a_demand("ann", owner="ann"), 1000)
    for _ in range(100):
        grid.second(lambda _: 8)
    bobs = grid.submit(a_demand("bob", owner="bob"), 10)
    submitted = grid.now
    for _ in range(30):
        grid.second(lambda _: 8)
    delays = [grid.started[name] - submitted for name in bobs]
    assert max(delays[:4]) <= 9, "half of the grid is his as soon as running tasks end"
    assert max(delays) <= 27
    anns = sum(name.startswith("ann") and at > submitted for name, at in grid.started.items())
    assert anns >= 12, "Ann goes on in her half"
