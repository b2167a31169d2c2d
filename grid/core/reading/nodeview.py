"""What people see of nodes beside their status: how the grid stands in a line, and what is and was on one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User

from grid.core import nodes
from grid.core.models import Attempt, Node
from grid.core.people import access
from grid.core.reading import lists, present
from grid.core.upkeep import heat
from tasks.order import Facts
from tasks.states import AttemptState
from tasks.views import NodeStatus, TaskView

MOST_RUNNING = 200
MOST_LAST = 20


@dataclass(frozen=True, slots=True)
class Totals:
    """The nodes counted by how they are, and what those that are ready have and use."""

    nodes: int
    ready: int
    offline: int
    closed: int
    running: int
    slots: int
    cpus: float
    cpus_used: float
    memory: int
    memory_used: int


@dataclass(frozen=True, slots=True)
class NodePage:
    """All that the page of one node tells. ``others`` counts what runs there of people whose tasks are not shown."""

    status: NodeStatus
    facts: Facts
    running: tuple[TaskView, ...]
    others: int
    last: tuple[TaskView, ...]
    day: tuple[heat.Moment, ...]


def totals(found: Sequence[NodeStatus]) -> Totals:
    """How the nodes stand together."""
    ready = [one for one in found if one.ready]
    return Totals(
        nodes=len(found),
        ready=len(ready),
        offline=sum(not one.online for one in found),
        closed=sum(one.online and not one.ready for one in found),
        running=sum(one.running for one in found),
        slots=sum(one.slots for one in ready),
        cpus=sum(one.cpus for one in ready),
        cpus_used=sum(one.cpus_used for one in ready),
        memory=sum(one.memory for one in ready),
        memory_used=sum(one.memory_used for one in ready),
    )


def page(user: User, node: Node, now: datetime) -> NodePage:
    """What ``user`` may see of a node."""
    status = next(one for one in nodes.status(now) if one.name == node.name)
    # In the words of the index of what is under way.
    held = Attempt.objects.exclude(state=AttemptState.ENDED).filter(node=node)
    ids = list(held.values_list("task_id", flat=True)[:MOST_RUNNING])
    seen = access.visible_tasks(user).filter(id__in=ids).select_related("owner", "attempt").order_by("-id")
    running = tuple(present.task_view(task) for task in seen)
    under_way = {one.id for one in running}
    newest = lists.page(user, {"node": node.name}, lists.Place(), MOST_LAST + len(under_way)).items
    return NodePage(
        status=status,
        facts=Facts.model_validate(node.facts) if node.facts else Facts.model_validate(nodes.NEVER_JOINED),
        running=running,
        others=len(ids) - len(running),
        last=tuple(one for one in newest if one.id not in under_way)[:MOST_LAST],
        day=tuple(heat.last_day([node.name], now)[node.name]),
    )
