"""What makes a node take a task or refuse it, and the sentence that says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.placement import Amounts, Demand, Explanation, Lease, NodeView, QueuedTask, explain
from tests.support.placement import GIB, MIB, NOW, a_backlog, a_demand, a_lease, a_node, decided, where

TASK = QueuedTask("waiting", 1, NOW - 40)


def explained(demand: Demand, *nodes: NodeView, licences: dict[str, int] | None = None) -> Explanation:
    return explain(demand, TASK, nodes, licences or {}, NOW)


ALONE = a_demand("alone", exclusive=True)
REFUSALS = [
    (a_demand(cpus=8), a_node(), "needs 8 cpus, the node has 4"),
    (a_demand(cpus=2), a_node(cpus=1), "needs 2 cpus, the node has 1"),
    (a_demand(memory=16 * GIB), a_node(), "needs 16G of memory, the node has 8G"),
    (a_demand(swap=2 * GIB), a_node(), "needs 2G of swap, the node has 1G"),
    (a_demand(storage=200 * GIB), a_node(), "needs 200G of storage, the node has 100G"),
    (a_demand(pids=2000), a_node(), "needs 2000 pids, the node has 1000"),
    (a_demand(gpus=1), a_node(), "needs 1 gpu, the node has 0"),
    (a_demand(), a_node(slots=0), "needs 1 slot, the node has 0"),
    (
        a_demand(gpus=1, gpu_memory=24 * GIB),
        a_node(gpus=2, gpu_memory=16 * GIB),
        "needs 24G on each gpu, the node's have 16G",
    ),
    (a_demand(requires=frozenset({"gpu:nvidia"})), a_node(tags=frozenset({"cpu:amd"})), "lacks the tag gpu:nvidia"),
    (a_demand(runtime="process"), a_node(), "does not offer the runtime process"),
    (a_demand(must_enforce=frozenset({"memory", "storage"})), a_node(), "cannot enforce storage"),
]
REFUSALS_NOW = [
    (
        a_demand(cpus=3),
        a_node("node", a_lease(), a_lease(a_demand(cpus=0.5))),
        "2.5 of 4 cpus are free, needs 3",
    ),
    (
        a_demand(memory=7 * GIB + 512 * MIB),
        a_node("node", a_lease()),
        "7G of 8G memory is free, needs 7.5G",
    ),
    (a_demand(), a_node("node", a_lease(a_demand(cpus=0)), slots=1), "0 of 1 slots are free, needs 1"),
    (a_demand(cpus=2), a_node(others_cpus=3), "3 of 4 cpus are in use by others, needs 2"),
    (a_demand(memory=4 * GIB), a_node(others_memory=5 * GIB), "5G of 8G memory is in use by others, needs 4G"),
    (
        a_demand(cpus=3),
        a_node("node", a_lease(a_demand(cpus=2)), others_cpus=0.5),
        "1.5 of 4 cpus are free (0.5 in use by others), needs 3",
    ),
    (
        a_demand(cpus=1),
        a_node("node", a_lease(a_demand(cpus=3)), others_cpus=3),
        "3 of 4 cpus are in use by others, needs 1",
    ),
    (a_demand(), a_node(ready=False, not_ready_reason="disk full"), "is not ready: disk full"),
    (a_demand(), a_node(ready=False), "is not ready"),
    (ALONE, a_node("node", a_lease()), "exclusive: 1 task is running here"),
    (ALONE, a_node("node", a_lease(), a_lease()), "exclusive: 2 tasks are running here"),
    (a_demand(), a_node("node", a_lease(ALONE)), "exclusive: a task that must be alone is running here"),
    (ALONE, a_node("node", a_lease(ALONE)), "exclusive: a task that must be alone is running here"),
]


@pytest.mark.parametrize(("demand", "node", "reason"), REFUSALS)
def test_a_node_that_can_never_run_a_task_says_why(demand: Demand, node: NodeView, reason: str) -> None:
    explanation = explained(demand, node)
    assert explanation.per_node[0].reasons == (reason,)
    assert not explanation.per_node[0].fits_now
    assert not explanation.can_ever_run
    assert explanation.summary == f"no node can ever run it: {reason}"
    assert not where(decided([a_backlog(demand)], [node]))


@pytest.mark.parametrize(("demand", "node", "reason"), REFUSALS_NOW)
def test_a_node_that_cannot_run_a_task_now_says_why(demand: Demand, node: NodeView, reason: str) -> None:
    explanation = explained(demand, node)
    assert explanation.per_node[0].reasons == (reason,)
    assert not explanation.fits_now
    assert explanation.can_ever_run
    assert explanation.summary == f"waits for room: {reason}"
    assert not where(decided([a_backlog(demand)], [node]))


def test_a_node_that_fits_has_no_reasons_and_takes_the_task() -> None:
    demand = a_demand(requires=frozenset({"a"}), must_enforce=frozenset({"pids"}), gpus=1, gpu_memory=GIB)
    node = a_node(tags=frozenset({"a", "b"}), gpus=1, gpu_memory=GIB)
    explanation = explained(demand, node, a_node("other"))
    assert explanation.fits_now
    assert explanation.per_node[0].reasons == ()
    assert explanation.summary == "1 node of 2 would take it now: it waits for its turn"
    assert where(decided([a_backlog(demand)], [node])) == {"small-1": "node"}


def test_nodes_that_differ_only_in_a_tag_are_told_apart() -> None:
    nodes = [a_node("a"), a_node("b", tags=frozenset({"hostname:b"})), a_node("c")]
    tagged = a_demand("tagged", requires=frozenset({"hostname:b"}))
    assert where(decided([a_backlog(tagged), a_backlog(first=2)], nodes)) == {"tagged-1": "b", "small-2": "b"}
    assert where(decided([a_backlog(tagged, 5)], nodes)) == {f"tagged-{seq}": "b" for seq in range(1, 5)}


def test_three_thirds_of_a_core_fit_on_one() -> None:
    assert len(where(decided([a_backlog(a_demand(cpus=1 / 3), 4)], [a_node(cpus=1)]))) == 3


def test_a_tenth_of_a_core_fits_ten_times_and_not_eleven_times() -> None:
    assert len(where(decided([a_backlog(a_demand(cpus=0.1, memory=0), 20)], [a_node(cpus=1, slots=20)]))) == 10


def test_a_node_that_shrank_under_its_leases_still_takes_what_does_not_need_the_missing_amount() -> None:
    shrunk = a_node("node", Lease("big", Amounts(cpus=8, memory=GIB)))
    assert not where(decided([a_backlog()], [shrunk]))
    assert where(decided([a_backlog(a_demand(cpus=0))], [shrunk])) == {"small-1": "node"}


def test_a_grid_without_nodes_says_so() -> None:
    assert explained(a_demand()).summary == "the grid has no nodes"
    assert not where(decided([a_backlog()], []))


def test_the_summary_counts_the_commonest_reasons() -> None:
    nodes = [a_node(f"slow{number}", cpus=1) for number in range(3)]
    nodes += [a_node("away", ready=False), a_node("busy", a_lease(a_demand(cpus=4)))]
    assert explained(a_demand(cpus=2), *nodes).summary == (
        "waits for room: 2 nodes of 5 could run it, but is not ready (1 node); 0 of 4 cpus are free, needs 2 (1 node)"
    )
    never = [a_node(name, cpus=cpus) for name, cpus in (("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 4))]
    assert explained(a_demand(cpus=5), *never).summary == (
        "no node can ever run it: needs 5 cpus, the node has 4 (2 nodes); needs 5 cpus, the node has 1 (1 node); "
        "needs 5 cpus, the node has 2 (1 node); ..."
    )


class TestWhatTheWholeGridShares:
    MATLAB = a_demand("matlab", resources=(("matlab", 1),))

    def test_licences_are_counted_on_every_node_even_those_that_are_away(self) -> None:
        away = a_node("away", a_lease(self.MATLAB), a_lease(self.MATLAB), ready=False)
        node = a_node("node", a_lease(self.MATLAB))
        explanation = explained(self.MATLAB, node, away, licences={"matlab": 3})
        assert explanation.grid_reasons == ("licence matlab: 0 of 3 free",)
        assert explanation.summary == "waits: licence matlab: 0 of 3 free"
        assert explanation.can_ever_run
        assert not where(decided([a_backlog(self.MATLAB)], [node, away], licences={"matlab": 3}))

    def test_a_round_hands_out_no_more_licences_than_there_are(self) -> None:
        assert len(where(decided([a_backlog(self.MATLAB, 4)], [a_node()], licences={"matlab": 3}))) == 3

    def test_the_number_needed_is_told_when_it_is_more_than_one(self) -> None:
        two = a_demand(resources=(("matlab", 2),))
        assert explained(two, a_node("node", a_lease(two)), licences={"matlab": 3}).grid_reasons == (
            "licence matlab: 1 of 3 free, needs 2",
        )

    def test_licences_that_the_grid_does_not_own_are_never_to_be_had(self) -> None:
        explanation = explained(self.MATLAB, a_node())
        assert explanation.summary == "can never run: licence matlab: needs 1, the grid has 0"
        assert not explanation.can_ever_run
        assert not where(decided([a_backlog(self.MATLAB, waited=999)], [a_node()]))

    def test_of_a_singleton_only_one_runs(self) -> None:
        nightly = a_demand("nightly", singleton="backup")
        other = a_demand("weekly", singleton="backup")
        assert len(where(decided([a_backlog(nightly, 2), a_backlog(other)], [a_node(), a_node("b")]))) == 1
        explanation = explained(other, a_node("node", a_lease(nightly)), a_node("b"))
        assert explanation.grid_reasons == ("another task of singleton 'backup' is running",)


class TestNodesToAvoid:
    TASK = QueuedTask("again", 1, NOW, avoid=frozenset({"bad"}))

    def test_a_task_does_not_return_to_a_node_that_failed_it_while_another_could_run_it(self) -> None:
        backlog = replace(a_backlog(), heads=(self.TASK,))
        busy = a_node("good", a_lease(a_demand(cpus=4)))
        assert not where(decided([backlog], [a_node("bad"), busy]))
        reasons = {
            node.node: node.reasons for node in explain(a_demand(), self.TASK, [a_node("bad"), busy], {}, NOW).per_node
        }
        assert reasons["bad"] == ("an earlier attempt failed here, and another node could run it",)

    @pytest.mark.parametrize("other", [a_node("small", cpus=0.5), a_node("away", ready=False)])
    def test_it_returns_when_no_other_node_could_ever_run_it(self, other: NodeView) -> None:
        backlog = replace(a_backlog(), heads=(self.TASK,))
        assert where(decided([backlog], [a_node("bad"), other])) == {"again": "bad"}
        assert explain(a_demand(), self.TASK, [a_node("bad"), other], {}, NOW).fits_now

    def test_those_behind_it_may_go_there(self) -> None:
        backlog = replace(a_backlog(), heads=(self.TASK, QueuedTask("fresh", 2, NOW)))
        assert where(decided([backlog], [a_node("bad"), a_node("good", a_lease(a_demand(cpus=4)))])) == {"fresh": "bad"}
