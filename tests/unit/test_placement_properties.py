"""What holds for every decision, whatever the queue and the nodes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.placement import (
    Amounts,
    Backlog,
    Decision,
    Demand,
    Lease,
    NodeView,
    Policy,
    QueuedTask,
    Share,
    decide,
    explain,
)
from tests.support.placement import NOW, a_lease

NAMES = ("n1", "n2", "n3", "n4")
TAGS = st.frozensets(st.sampled_from(("fast", "amd")), max_size=1)
LIMITS = st.frozensets(st.sampled_from(("memory", "storage")), max_size=1)
LICENCES = {"matlab": 3, "ida": 1}
RESOURCES = st.sampled_from(((), (), (("matlab", 1),), (("matlab", 2), ("ida", 1)), (("nowhere", 1),)))
TIMES = st.sampled_from((None, 10.0, 100.0, 1000.0))


def demands(key: str) -> st.SearchStrategy[Demand]:
    return st.builds(
        Demand,
        key=st.just(key),
        owner=st.sampled_from(("ann", "bob")),
        priority=st.integers(-1, 1),
        cpus=st.sampled_from((0, 0.1, 0.5, 1 / 3, 1, 2, 4)),
        memory=st.integers(0, 8),
        swap=st.integers(0, 2),
        pids=st.integers(0, 4),
        storage=st.integers(0, 3),
        gpus=st.sampled_from((0, 0, 0, 1)),
        gpu_memory=st.integers(0, 1),
        requires=TAGS,
        exclusive=st.sampled_from((False, False, False, True)),
        resources=RESOURCES,
        runtime=st.sampled_from(("docker", "docker", "docker", "process")),
        must_enforce=LIMITS,
        time_seconds=TIMES,
        singleton=st.sampled_from(("", "", "one")),
    )


@st.composite
def backlogs(draw: st.DrawFn) -> list[Backlog]:
    sequence = draw(st.permutations(range(24)))
    result = []
    for number in range(draw(st.integers(0, 6))):
        avoid = st.frozensets(st.sampled_from(NAMES), max_size=2)
        heads = tuple(
            QueuedTask(f"t{seq}", seq, NOW - draw(st.sampled_from((0.0, 99.0))), draw(avoid))
            for seq in sequence[number * 4 : number * 4 + draw(st.integers(0, 4))]
        )
        result.append(Backlog(draw(demands(f"d{number}")), heads, len(heads) + draw(st.integers(0, 3))))
    return result


@st.composite
def grids(draw: st.DrawFn) -> list[NodeView]:
    """Nodes whose leases were placed by `decide` itself, so that they are a state that can come about."""
    nodes = draw(
        st.lists(
            st.builds(
                NodeView,
                name=st.sampled_from(NAMES),
                capacity=st.builds(
                    Amounts,
                    cpus=st.sampled_from((1, 2, 4)),
                    memory=st.integers(4, 12),
                    swap=st.integers(0, 3),
                    pids=st.integers(3, 9),
                    storage=st.integers(2, 6),
                    gpus=st.integers(0, 1),
                    slots=st.integers(1, 5),
                ),
                tags=TAGS,
                enforces=st.sampled_from((frozenset(), frozenset({"memory", "storage"}))),
                gpu_memory=st.integers(0, 1),
                ready=st.sampled_from((True, True, True, False)),
            ),
            unique_by=lambda node: node.name,
            max_size=4,
        )
    )
    before = draw(backlogs())
    by_key = {backlog.demand.key: backlog.demand for backlog in before}
    decision = decide(before, [replace(node, ready=True) for node in nodes], LICENCES, (), NOW)
    leases: dict[str, list[Lease]] = {node.name: [] for node in nodes}
    for placed in decision.placements:
        ends_at = draw(st.sampled_from((None, NOW - 5, NOW + 50, NOW + 500)))
        leases[placed.node].append(a_lease(by_key[placed.demand_key], "old-" + placed.task_id, ends_at))
    return [replace(node, leases=tuple(leases[node.name])) for node in nodes]


def after(decision: Decision, queue: list[Backlog], nodes: list[NodeView]) -> list[NodeView]:
    """The nodes with the placements as leases."""
    by_key = {backlog.demand.key: backlog.demand for backlog in queue}
    extra: dict[str, list[Lease]] = {node.name: [] for node in nodes}
    for placed in decision.placements:
        extra[placed.node].append(a_lease(by_key[placed.demand_key], placed.task_id))
    return [replace(node, leases=(*node.leases, *extra[node.name])) for node in nodes]


SHARES = (Share("ann", 2.0, 0.2), Share("bob", 1.0, 0.1))
many = settings(max_examples=100, deadline=None)


@many
@given(backlogs(), grids())
def test_nothing_is_ever_oversold(queue: list[Backlog], nodes: list[NodeView]) -> None:
    decision = decide(queue, nodes, LICENCES, SHARES, NOW)
    taken: dict[str, int] = {}
    singletons: list[str] = []
    for node in after(decision, queue, nodes):
        for field in ("memory", "swap", "pids", "storage", "gpus", "slots"):
            assert sum(getattr(lease.amounts, field) for lease in node.leases) <= getattr(node.capacity, field)
        assert sum(lease.amounts.cpus for lease in node.leases) <= node.capacity.cpus + 1e-5
        if any(lease.exclusive for lease in node.leases):
            assert len(node.leases) == 1
        for lease in node.leases:
            singletons += [lease.singleton] if lease.singleton else []
            for name, number in lease.resources:
                taken[name] = taken.get(name, 0) + number
    assert all(number <= LICENCES.get(name, 0) for name, number in taken.items())
    assert len(singletons) == len(set(singletons))


@many
@given(backlogs(), grids())
def test_tasks_go_once_and_only_to_nodes_that_can_run_them(queue: list[Backlog], nodes: list[NodeView]) -> None:
    decision = decide(queue, nodes, LICENCES, SHARES, NOW)
    by_key = {backlog.demand.key: backlog.demand for backlog in queue}
    by_name = {node.name: node for node in nodes}
    heads = {head.id: head for backlog in queue for head in backlog.heads}
    assert len({placed.task_id for placed in decision.placements}) == len(decision.placements)
    for placed in decision.placements:
        demand, node = by_key[placed.demand_key], by_name[placed.node]
        assert node.ready
        assert demand.requires <= node.tags
        assert demand.must_enforce <= node.enforces
        assert demand.runtime in node.runtimes
        assert demand.gpu_memory <= node.gpu_memory
        told = explain(demand, heads[placed.task_id], nodes, LICENCES, NOW)
        assert next(one for one in told.per_node if one.node == placed.node).fits_now


@many
@given(backlogs(), grids(), st.randoms())
def test_the_same_facts_give_the_same_decision(
    queue: list[Backlog], nodes: list[NodeView], random: st.DataObject
) -> None:
    decision = decide(queue, nodes, LICENCES, SHARES, NOW)
    assert decide(queue, nodes, LICENCES, SHARES, NOW) == decision
    shuffled = list(nodes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # st.randoms gives a random.Random
    assert decide(queue, shuffled, LICENCES, SHARES, NOW) == decision


@many
@given(demands("d"), grids(), st.frozensets(st.sampled_from(NAMES), max_size=2))
def test_alone_in_the_queue_a_task_is_placed_exactly_when_explain_says_so(
    demand: Demand, nodes: list[NodeView], avoid: frozenset[str]
) -> None:
    task = QueuedTask("t", 1, NOW, avoid)
    told = explain(demand, task, nodes, LICENCES, NOW)
    decision = decide([Backlog(demand, (task,), 1)], nodes, LICENCES, SHARES, NOW)
    assert bool(decision.placements) == told.fits_now
    assert all(node.fits_ever or not node.fits_now for node in told.per_node)
    if decision.placements:
        assert next(one for one in told.per_node if one.node == decision.placements[0].node).fits_now


@many
@given(backlogs(), grids())
def test_who_is_left_fits_nowhere_any_more(queue: list[Backlog], nodes: list[NodeView]) -> None:
    decision = decide(queue, nodes, LICENCES, SHARES, NOW)
    placed = {placement.task_id for placement in decision.placements}
    later = after(decision, queue, nodes)
    for backlog in queue:
        for head in backlog.heads:
            if head.id not in placed:
                told = explain(backlog.demand, head, later, LICENCES, NOW, decision.reservations)
                assert not told.fits_now, (head, backlog.demand)


@many
@given(backlogs(), grids())
def test_a_reservation_is_kept_by_what_is_placed(queue: list[Backlog], nodes: list[NodeView]) -> None:
    """Once all that has a known end is gone at the start of the reservation, the task for which it stands does fit."""
    decision = decide(queue, nodes, LICENCES, SHARES, NOW, Policy(max_reservations=2))
    assert len(decision.reservations) <= 2
    by_key = {backlog.demand.key: backlog.demand for backlog in queue}
    placed = {placement.task_id: by_key[placement.demand_key].time_seconds for placement in decision.placements}
    for kept in decision.reservations:

        def still_there(lease: Lease, start: float = kept.starts_at) -> bool:
            if lease.attempt in placed:
                seconds = placed[lease.attempt]
                return start != float("inf") and (seconds is None or NOW + seconds + Policy().margin_seconds > start)
            return (float("inf") if lease.ends_at is None else lease.ends_at) > start

        then = [replace(node, leases=tuple(filter(still_there, node.leases))) for node in after(decision, queue, nodes)]
        demand = replace(by_key[kept.demand_key], singleton="")
        told = explain(demand, QueuedTask(kept.task_id, 1, NOW), then, LICENCES, NOW)
        assert next(one for one in told.per_node if one.node == kept.node).reasons == ()
