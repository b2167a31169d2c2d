"""The queue for people who look: whose turn it is, who has how much of the grid, and what has waited longest and why.

Nothing grows with the length of the queue: demands are counted up to a bound, along their index, all in one query, and
the reasons are placement's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db.models import OuterRef, Q, Subquery, Sum

from grid.core import policy, snapshot
from grid.core.conf import conf
from grid.core.ids import order_of
from grid.core.models import Attempt, CpuSlice, Demand, Task
from grid.core.people import access, quotas
from tasks.placement import Backlog, Explainer, NodeView, QueuedTask, Share, current_shares, decide
from tasks.states import AttemptState, TaskState
from tasks.views import Licence, QueueOwner, QueueView, QueueWait

MOST_DEMANDS = 300
MOST_COUNTED = 1000
MOST_WAITS = 10
MOST_OWNERS = 100
# So many owners are told why their next task does not start.
MOST_REASONS = 20
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Line:
    """The queued tasks of one demand: the oldest, and how many there are (the least, if not ``exact``)."""

    backlog: Backlog
    task: Task
    exact: bool

    @property
    def owner(self) -> int:
        return self.task.owner_id


@dataclass(frozen=True, slots=True)
class _Scene:
    """All that the view is made of, read once."""

    now: datetime
    lines: tuple[_Line, ...]
    whole: bool
    nodes: tuple[NodeView, ...]
    shares: Mapping[int, Share]
    explainer: Explainer
    held_back: Mapping[int, tuple[str, ...]]
    cpu: Mapping[int, tuple[float, float]]


def view(user: User, now: datetime) -> QueueView:
    """The queue as ``user`` may see it."""
    scene = _scene(now)
    sight = access.sight(user)
    rows = _owners(scene)
    names = dict(User.objects.filter(pk__in=rows).values_list("pk", "username"))
    known = set(rows) if sight.everything else {user.pk, *sight.mates}
    leases = [lease for node in scene.nodes for lease in node.leases]
    return QueueView(
        at=now,
        queued=sum(line.backlog.count for line in scene.lines),
        exact=all(line.exact for line in scene.lines),
        running=len(leases),
        slots=sum(node.capacity.slots for node in scene.nodes if node.ready),
        owners=_shown(rows, names, known),
        groups=_groups(rows, None if sight.everything else user),
        waits=_waits(scene, known),
        licences=_licences([lease.resources for lease in leases]),
        whole=scene.whole,
    )


def _scene(now: datetime) -> _Scene:
    lines = _lines()
    whole, lines = len(lines) <= MOST_DEMANDS, lines[:MOST_DEMANDS]
    nodes = snapshot.nodes(now, conf().run_grace_seconds)
    backlogs = [line.backlog for line in lines]
    shares = current_shares(nodes)
    owners = {backlog.demand.owner for backlog in backlogs}
    ceilings = quotas.ceilings(owners, nodes, now)
    rules = replace(conf().placement, ceilings=ceilings)
    decision = decide(backlogs, nodes, conf().licences, shares, now.timestamp(), rules)
    return _Scene(
        now,
        tuple(lines),
        whole,
        nodes,
        {int(share.owner): share for share in shares},
        Explainer(nodes, conf().licences, now.timestamp(), decision.reservations),
        {int(owner): quotas.held_back(ceilings, owner) for owner in owners},
        cpu_seconds(now),
    )


def _lines() -> list[_Line]:
    """The queue by demand, one more than are shown if there are more."""
    # In the order of the index, of which no more is read than is counted.
    queued = Task.objects.filter(demand_id=OuterRef("key"), state=TaskState.QUEUED).order_by("id").values("id")
    found = Demand.objects.filter(active=True).annotate(
        count=snapshot.Counted(queued[:MOST_COUNTED]), first=Subquery(queued[:1])
    )
    rows = list(found.order_by("key").values_list("data", "count", "first")[: MOST_DEMANDS + 1])
    columns = ("id", "name", "owner__username", "queued_at", "created_at", "avoid", "priority", "state")
    firsts = Task.objects.select_related("owner").only(*columns).in_bulk([first for _, _, first in rows if first])
    return [
        _Line(Backlog(policy.demand_from(data), (_queued(task),), count), task, count < MOST_COUNTED)
        for data, count, first in rows
        # What has just been placed is no part of the queue any more.
        if (task := firsts.get(first)) is not None and task.state == TaskState.QUEUED
    ]


def _queued(task: Task) -> QueuedTask:
    since = task.queued_at or task.created_at
    return QueuedTask(task.id, order_of(task.id), since.timestamp(), frozenset(task.avoid))


def cpu_seconds(now: datetime) -> dict[int, tuple[float, float]]:
    """The processor seconds that each user's attempts reserved in the last hour and the last day, by user.

    What has ended is known by slices of ten minutes, the oldest of which counts whole.
    """
    hour, day = now - HOUR, now - DAY
    sums = CpuSlice.objects.filter(at__gt=day).values_list("owner_id")
    ended = sums.annotate(hour=Sum("seconds", filter=Q(at__gt=hour)), day=Sum("seconds")).order_by()
    found: dict[int, tuple[float, float]] = {owner: (in_hour or 0.0, in_day) for owner, in_hour, in_day in ended}
    active = Attempt.objects.exclude(state=AttemptState.ENDED).filter(started_at__isnull=False)
    for owner, started, cpus in active.values_list("task__owner_id", "started_at", "task__limits__cpus"):
        if started is not None:
            before = found.get(owner, (0.0, 0.0))
            in_hour, in_day = ((now - max(started, since)).total_seconds() * (cpus or 0.0) for since in (hour, day))
            found[owner] = (before[0] + max(0.0, in_hour), before[1] + max(0.0, in_day))
    return found


def _owners(scene: _Scene) -> dict[int, QueueOwner]:
    """A row for each user who has, had or wants a part of the grid: in the order of serving, then by what they had."""
    running: dict[int, int] = defaultdict(int)
    for node in scene.nodes:
        for lease in node.leases:
            running[int(lease.owner)] += 1
    lines: dict[int, list[_Line]] = defaultdict(list)
    for line in scene.lines:
        lines[line.owner].append(line)
    heads = {owner: min(own, key=_rank_within) for owner, own in lines.items()}
    served = sorted(heads, key=lambda owner: _turn(scene, owner, heads[owner]))
    others = sorted({*running, *scene.cpu} - {*served}, key=lambda one: (-running[one], -scene.cpu.get(one, (0, 0))[1]))
    rows: dict[int, QueueOwner] = {}
    for place, owner in enumerate([*served, *others]):
        own, head = lines.get(owner, []), heads.get(owner)
        share = scene.shares.get(owner, Share(str(owner)))
        hour, day = scene.cpu.get(owner, (0.0, 0.0))
        rows[owner] = QueueOwner(
            name=str(owner),
            rank=place + 1 if head else None,
            queued=sum(line.backlog.count for line in own),
            exact=all(line.exact for line in own),
            running=running[owner],
            share=round(min(1.0, share.used), 4),
            weight=share.weight,
            cpu_seconds_hour=round(hour, 1),
            cpu_seconds_day=round(day, 1),
            next_task=head.task.id if head else "",
            reason=_why(scene, head)[0] if head and place < MOST_REASONS else "",
        )
    return rows


def _rank_within(line: _Line) -> tuple[int, int]:
    """The order of one owner's demands, smallest first."""
    return -line.backlog.demand.priority, line.backlog.heads[0].seq


def _turn(scene: _Scene, owner: int, head: _Line) -> tuple[bool, float, int]:
    """The order of serving, as placement has it: who is held back last, then who has the least, then who came first."""
    share = scene.shares.get(owner, Share(str(owner)))
    return bool(scene.held_back.get(owner)), share.used / share.weight, head.backlog.heads[0].seq


def _why(scene: _Scene, line: _Line) -> tuple[str, bool]:
    """Why the first task of a demand does not start now, and whether it ever could."""
    demand, task = line.backlog.demand, line.backlog.heads[0]
    found = scene.explainer.explain(demand, task)
    held = scene.held_back.get(line.owner, ())
    return ("waits: " + "; ".join(held) if held and found.can_ever_run else found.summary), found.can_ever_run


def _shown(rows: Mapping[int, QueueOwner], names: Mapping[int, str], known: set[int]) -> tuple[QueueOwner, ...]:
    """The rows by name; those of people whom the caller does not know are one, at the end."""
    own = [row.model_copy(update={"name": names.get(pk, "")}) for pk, row in rows.items() if pk in known]
    hidden = [row for pk, row in rows.items() if pk not in known]
    return tuple(own[:MOST_OWNERS]) + ((_sum("", hidden),) if hidden else ())


def _groups(rows: Mapping[int, QueueOwner], member: User | None) -> tuple[QueueOwner, ...]:
    """The sums of each group: of those that ``member`` is in, or of all."""
    through = User.groups.through.objects.filter(user_id__in=rows)
    if member is not None:
        through = through.filter(group_id__in=member.groups.values("pk"))
    members: dict[str, list[QueueOwner]] = defaultdict(list)
    for group, pk in through.values_list("group__name", "user_id"):
        members[group].append(rows[pk])
    found = [_sum(name, own) for name, own in members.items()]
    return tuple(sorted(found, key=lambda one: (-one.share, -one.queued, one.name))[:MOST_OWNERS])


def _sum(name: str, rows: Sequence[QueueOwner]) -> QueueOwner:
    return QueueOwner(
        name=name,
        queued=sum(row.queued for row in rows),
        exact=all(row.exact for row in rows),
        running=sum(row.running for row in rows),
        share=round(min(1.0, sum(row.share for row in rows)), 4),
        cpu_seconds_hour=round(sum(row.cpu_seconds_hour for row in rows), 1),
        cpu_seconds_day=round(sum(row.cpu_seconds_day for row in rows), 1),
    )


def _age(line: _Line) -> tuple[float, int]:
    """Since when its oldest task has waited."""
    return line.backlog.heads[0].queued_at, line.backlog.heads[0].seq


def _waits(scene: _Scene, known: set[int]) -> tuple[QueueWait, ...]:
    """What has waited longest, of each kind the oldest, of the people whom the caller knows."""
    lines = sorted((line for line in scene.lines if line.owner in known), key=_age)
    found = []
    for line in lines[:MOST_WAITS]:
        reason, ever = _why(scene, line)
        found.append(
            QueueWait(
                task=line.task.id,
                name=line.task.name,
                owner=line.task.owner.username,
                queued_at=line.task.queued_at or line.task.created_at,
                priority=line.task.priority,
                alike=line.backlog.count,
                exact=line.exact,
                can_ever_run=ever,
                reason=reason,
            )
        )
    return tuple(found)


def _licences(held: Iterable[tuple[tuple[str, int], ...]]) -> tuple[Licence, ...]:
    used: dict[str, int] = defaultdict(int)
    for resources in held:
        for name, number in resources:
            used[name] += number
    return tuple(Licence(name=name, total=total, used=used[name]) for name, total in sorted(conf().licences.items()))
