"""Why a task is where it is, with the very predicates that placement uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from django.db.models import OuterRef

from grid.core import policy, snapshot
from grid.core.conf import conf
from grid.core.ids import order_of
from grid.core.models import Demand, Task
from grid.core.people import quotas
from grid.core.reading import estimate
from tasks.placement import Backlog, QueuedTask, current_shares, decide, grid_capacity, position
from tasks.placement import explain as explain_placement
from tasks.states import TaskState
from tasks.views import ExplainView, NodeReasons

# So many queued tasks of each demand are counted. Who has more before him need not know to the last one, and counting a
# million takes longer than all the rest.
MOST_COUNTED = 2000


def explain(task: Task, now: datetime) -> ExplainView:
    """The state of a task in words; for a queued one the reasons of each node and its position."""
    state = TaskState(task.state)
    if state is not TaskState.QUEUED:
        return ExplainView(task=task.id, state=state, summary=_words(task, state))
    demand = policy.demand_from(task.demand.data)
    nodes = snapshot.nodes(now, conf().run_grace_seconds)
    backlogs = snapshot.counted_backlogs(MOST_COUNTED)
    queued = QueuedTask(task.id, order_of(task.id), (task.queued_at or now).timestamp(), frozenset(task.avoid))
    shares = current_shares(nodes)
    ceilings = quotas.ceilings({one.demand.owner for one in backlogs}, nodes, now)
    held_back = quotas.held_back(ceilings, demand.owner)
    rules = replace(conf().placement, ceilings=ceilings)
    decision = decide(backlogs, nodes, conf().licences, shares, now.timestamp(), rules)
    found = explain_placement(demand, queued, nodes, conf().licences, now.timestamp(), decision.reservations)
    before = position(queued, demand, backlogs, shares, grid_capacity(nodes), _earlier(task, backlogs))
    # What is held back, or fits nowhere, waits for something else than for those before it.
    guess = estimate.of_start(before) if found.can_ever_run and not held_back else None
    return ExplainView(
        task=task.id,
        state=state,
        summary="waits: " + "; ".join(held_back) if held_back and found.can_ever_run else found.summary,
        position=before + 1,
        queued=max(before + 1, sum(backlog.count for backlog in backlogs)),
        exact=all(backlog.count < MOST_COUNTED for backlog in backlogs),
        estimate_seconds=guess.seconds if guess else None,
        estimate=guess.words if guess else "",
        can_ever_run=found.can_ever_run,
        nodes=tuple(
            NodeReasons(
                node=one.node,
                fits_now=one.fits_now and not held_back,
                fits_ever=one.fits_ever,
                reasons=one.reasons + held_back,
            )
            for one in found.per_node
        ),
    )


def _earlier(task: Task, backlogs: Iterable[Backlog]) -> dict[str, int]:
    """How many queued tasks of the same owner and priority came before it, by demand."""
    rivals = [one.demand for one in backlogs if one.demand.owner == str(task.owner_id)]
    earlier = Task.objects.filter(demand_id=OuterRef("key"), state=TaskState.QUEUED, id__lt=task.id).order_by("id")
    found = Demand.objects.filter(key__in=[rival.key for rival in rivals if rival.priority == task.priority])
    counted = found.annotate(count=snapshot.Counted(earlier.values("id")[:MOST_COUNTED]))
    return dict(counted.values_list("key", "count"))


def _words(task: Task, state: TaskState) -> str:
    if state is TaskState.WAITING:
        if task.not_before is not None:
            why = f" ({task.attempt.decision})" if task.attempt and task.attempt.decision else ""
            return f"it is tried again at {task.not_before:%H:%M:%S} UTC{why}"
        names = task.needs.exclude(needs__state=TaskState.SUCCEEDED).values_list("needs__name", "needs_id")
        return "it waits for " + ", ".join(f"{name} ({task_id})" for name, task_id in names)
    if state is TaskState.ASSIGNED:
        return f"it was sent to node {task.node_name}, which has not taken it up yet"
    if state is TaskState.RUNNING:
        phase = task.attempt.phase if task.attempt else ""
        return f"it runs on node {task.node_name}" + (f" ({phase})" if phase else "")
    return f"it ended as {task.verdict}: {task.reason}"
