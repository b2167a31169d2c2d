"""Who is served first, on which node, and how many come before a task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.placement import (
    Amounts,
    Backlog,
    NodeView,
    Policy,
    QueuedTask,
    Share,
    current_shares,
    dominant_share,
    grid_capacity,
    position,
)
from tests.support.placement import GIB, NOW, a_backlog, a_demand, a_lease, a_node, decided, where

ANN, BOB = a_demand("ann", owner="ann"), a_demand("bob", owner="bob")


class TestTurns:
    def test_owners_take_turns(self) -> None:
        decision = decided([a_backlog(ANN, 10), a_backlog(BOB, 10, first=11)], [a_node()])
        assert list(where(decision)) == ["ann-1", "bob-11", "ann-2", "bob-12"]

    def test_who_uses_less_is_served_until_both_have_the_same(self) -> None:
        decision = decided(
            [a_backlog(ANN, 10), a_backlog(BOB, 10, first=11)], [a_node()], shares=[Share("ann", used=0.5)]
        )
        assert list(where(decision)) == ["bob-11", "bob-12", "ann-1", "bob-13"]

    def test_an_owner_of_double_weight_gets_double_the_share(self) -> None:
        backlogs = [a_backlog(ANN, 10), a_backlog(BOB, 10, first=11)]
        placed = where(decided(backlogs, [a_node(cpus=6)], shares=[Share("bob", weight=2)]))
        assert sum(name.startswith("bob") for name in placed) == 4

    def test_an_owner_of_no_weight_comes_last(self) -> None:
        decision = decided([a_backlog(ANN, 3), a_backlog(BOB, 3)], [a_node()], shares=[Share("ann", weight=0)])
        assert list(where(decision)) == ["ann-1", "bob-1", "bob-2", "bob-3"]

    def test_a_task_that_must_be_alone_costs_its_owner_the_whole_node(self) -> None:
        alone = a_demand("alone", owner="bob", exclusive=True)
        backlogs = [a_backlog(alone, 1), a_backlog(ANN, 4, first=2), a_backlog(BOB, 4, first=9)]
        decision = decided(backlogs, [a_node("a"), a_node("b")])
        assert list(where(decision)) == ["alone-1", "ann-2", "ann-3", "ann-4", "ann-5"]

    def test_within_an_owner_the_higher_priority_comes_first_and_then_the_older_task(self) -> None:
        urgent = a_demand("urgent", priority=5)
        twin = a_demand("twin")
        backlogs = [a_backlog(a_demand(), 2, first=3), a_backlog(twin, 2, first=1), a_backlog(urgent, 1, first=9)]
        assert list(where(decided(backlogs, [a_node()]))) == ["urgent-9", "twin-1", "twin-2", "small-3"]

    def test_what_fits_nowhere_does_not_block_those_behind_it(self) -> None:
        backlogs = [a_backlog(a_demand("huge", cpus=64, priority=9)), a_backlog(a_demand("big", cpus=4, priority=8))]
        backlogs.append(a_backlog(a_demand(), 2, first=5))
        assert list(where(decided(backlogs, [a_node("node", a_lease())]))) == ["small-5", "small-6"]

    def test_a_task_that_is_listed_twice_is_placed_once(self) -> None:
        assert where(decided([a_backlog(), a_backlog()], [a_node()])) == {"small-1": "node"}
        assert len(decided([a_backlog(), a_backlog()], [a_node()]).placements) == 1

    def test_a_round_ends_at_its_bound_and_says_so(self) -> None:
        decision = decided([a_backlog(a_demand(), 3)], [a_node()], policy=Policy(max_placements=2))
        assert (len(decision.placements), decision.full) == (2, True)
        assert not decided([a_backlog(a_demand(), 3)], [a_node()]).full

    def test_demands_of_which_all_heads_were_placed_are_named_while_more_are_queued(self) -> None:
        backlog = replace(a_backlog(a_demand(), 2), count=7)
        assert decided([backlog], [a_node()]).more == ("small",)
        assert decided([backlog], [a_node(cpus=1)]).more == ()
        assert decided([a_backlog(a_demand(), 2)], [a_node()]).more == ()


class TestChoiceOfNode:
    def only(self, demand_key: str, nodes: list[NodeView], **fields: object) -> str:
        return where(decided([a_backlog(a_demand(demand_key, **fields))], nodes))[f"{demand_key}-1"]

    def test_small_tasks_are_packed_so_that_large_holes_remain(self) -> None:
        assert self.only("small", [a_node("empty"), a_node("started", a_lease())]) == "started"
        assert self.only("small", [a_node("large", cpus=16), a_node("small", cpus=2)]) == "small"

    def test_equals_are_told_apart_by_name(self) -> None:
        assert self.only("small", [a_node("b"), a_node("a"), a_node("c")]) == "a"

    def test_nodes_with_gpus_are_left_to_those_who_need_one(self) -> None:
        nodes = [a_node("a-gpu", a_lease(), gpus=1), a_node("plain")]
        assert self.only("small", nodes) == "plain"
        assert self.only("cuda", nodes, gpus=1) == "a-gpu"
        assert self.only("small", nodes[:1]) == "a-gpu"

    def test_empty_nodes_are_left_to_those_who_must_be_alone_while_such_wait(self) -> None:
        nodes = [a_node("empty", cpus=2), a_node("started", a_lease(), cpus=8)]
        assert self.only("small", nodes) == "empty"
        alone = a_demand("alone", exclusive=True, owner="zoe")
        assert where(decided([a_backlog(), a_backlog(alone, first=2)], nodes)) == {
            "small-1": "started",
            "alone-2": "empty",
        }

    def test_a_fraction_of_a_core_goes_where_a_core_is_broken_already(self) -> None:
        half = a_lease(a_demand(cpus=0.5))
        nodes = [a_node("a-whole", a_lease(a_demand(cpus=3))), a_node("broken", half)]
        assert self.only("crumb", nodes, cpus=0.5) == "broken"


class TestShares:
    def test_a_dominant_share_is_the_greatest_part_of_what_is_shared(self) -> None:
        total = Amounts(cpus=10, memory=100, gpus=0, slots=10).vector()
        assert dominant_share(Amounts(cpus=1, memory=50).vector(), total) == pytest.approx(0.5)
        assert dominant_share(Amounts(cpus=2, memory=10, pids=9999, gpus=1).vector(), total) == pytest.approx(0.2)

    def test_leases_add_up_by_owner_and_past_use_is_added(self) -> None:
        alone = a_demand("alone", owner="bob", exclusive=True)
        nodes = [a_node("a", a_lease(ANN), a_lease(ANN)), a_node("b", a_lease(alone)), a_node("c", ready=False)]
        shares = current_shares(nodes, weights={"ann": 2, "eve": 3}, past={"eve": 0.1})
        assert {share.owner: (share.weight, share.used) for share in shares} == {
            "ann": (2, 0.25),
            "eve": (3, 0.1),
            "bob": (1, 0.5),
        }

    def test_the_grid_is_what_the_ready_nodes_offer(self) -> None:
        assert grid_capacity([a_node("a"), a_node("b", cpus=2), a_node("c", ready=False)]).cpus == 6


class TestPosition:
    CAPACITY = grid_capacity([a_node()])

    def place(self, seq: int, demand_key: str, backlogs: list[Backlog], **options: object) -> int:
        demand = next(backlog.demand for backlog in backlogs if backlog.demand.key == demand_key)
        shares = options.get("shares", ())
        earlier = options.get("earlier")
        assert isinstance(shares, tuple)
        assert earlier is None or isinstance(earlier, dict)
        return position(QueuedTask(f"t{seq}", seq, NOW), demand, backlogs, shares, self.CAPACITY, earlier)

    def test_own_tasks_count_by_priority_and_age(self) -> None:
        urgent, later = a_demand("urgent", priority=1), a_demand("later", priority=-1)
        backlogs = [a_backlog(a_demand(), 5, first=10), a_backlog(urgent, 3, first=50), a_backlog(later, 9)]
        assert self.place(10, "small", backlogs) == 3
        assert self.place(14, "small", backlogs) == 7
        assert self.place(51, "urgent", backlogs) == 1
        assert self.place(3, "later", backlogs) == 10

    def test_equal_demands_are_merged_by_age(self) -> None:
        backlogs = [a_backlog(a_demand(), 3, first=1), a_backlog(a_demand("twin"), 3, first=3)]
        assert self.place(4, "twin", backlogs) == 4

    def test_tasks_beyond_the_heads_come_from_counts(self) -> None:
        long = replace(a_backlog(a_demand(), 3), count=1_000_000)
        assert self.place(2, "small", [long]) == 1
        assert self.place(700_000, "small", [long]) == 999_999
        assert self.place(700_000, "small", [long], earlier={"small": 650_000}) == 650_000
        assert self.place(9, "twin", [long, a_backlog(a_demand("twin"), first=9)]) == 1_000_000

    def test_of_others_only_those_count_whom_fair_shares_let_go_first(self) -> None:
        backlogs = [a_backlog(ANN, 1000), a_backlog(BOB, 10, first=2000)]
        assert self.place(2000, "bob", backlogs) == 0
        assert self.place(2009, "bob", backlogs) == 9 + 9
        assert self.place(1000, "ann", backlogs) == 999 + 10
        ahead = (Share("ann", used=0.5),)
        assert self.place(2000, "bob", backlogs, shares=ahead) == 0
        assert self.place(1, "ann", backlogs, shares=ahead) == 2

    def test_what_costs_nothing_comes_first_as_a_whole(self) -> None:
        nothing = Amounts(slots=0)
        backlogs = [a_backlog(ANN, 3), a_backlog(BOB, 2)]
        task = QueuedTask("t", 3, NOW)
        assert position(task, ANN, backlogs, (Share("ann", used=1),), nothing) == 2 + 2

    def test_the_position_is_the_number_placed_before_in_a_round_with_room_for_all(self) -> None:
        urgent = a_demand("urgent", owner="bob", priority=3, cpus=2)
        backlogs = [a_backlog(ANN, 6), a_backlog(BOB, 5, first=20), a_backlog(urgent, 2, first=40)]
        nodes = [a_node(cpus=64, slots=64, capacity=Amounts(cpus=64, memory=64 * GIB, pids=9999, slots=64))]
        order = list(where(decided(backlogs, nodes)))
        for backlog in backlogs:
            for head in backlog.heads:
                found = position(head, backlog.demand, backlogs, (), grid_capacity(nodes))
                assert abs(found - order.index(head.id)) <= 1, head
