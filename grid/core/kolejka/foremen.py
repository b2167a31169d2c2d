"""kolejka's foremen as nodes: they ask for tasks by themselves, say nothing while these run, and bring results.

Such a node is never ready for the dispatcher. It is given tasks here by the same rules of placement, under a lock, and
each move is the same conditional UPDATE: of all who want a task one gets it. Nothing is heard of an attempt until its
result comes, so it has a deadline instead of a lease; what is not back by then is tried again elsewhere.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q

from grid.core import offers, outcomes, records, snapshot
from grid.core.conf import GridSettings, conf
from grid.core.kolejka import references, shown
from grid.core.models import Attempt, Lock, Node, OlderKey, Task
from grid.core.people import access, quotas
from tasks.dialects.kolejka import Json
from tasks.dialects.kolejka_foremen import Wish, hold_seconds, missing_outputs
from tasks.dialects.kolejka_results import Report, evidence_of
from tasks.errors import Fault, NotAllowed, SpecError, Unavailable
from tasks.files import normal_path
from tasks.limits import Limits
from tasks.outcome import Outcome, OutputFile
from tasks.placement import Placement, current_shares, decide
from tasks.spec import parse_spec
from tasks.states import AttemptState, NodeMode, Phase

NOT_READY = "a kolejka foreman, which asks for work by itself"
_LOCK = "foremen"
_SEEN_SECONDS = 120.0
_SPARE_SECONDS = 3600.0
_TURN_SECONDS = 20.0

_turn = threading.Lock()


def check_may_process(user: User) -> None:
    """Raise NotAllowed for an account that is not a foreman's."""
    if not access.sight(user).processes:
        raise NotAllowed("this account may not run tasks of others; ask the operator to make it a member of Processors")


def dequeue(user: User, wish: Wish, now: datetime) -> list[Json]:
    """Give a foreman what fits on it, best first: all that it gets is running from now on.

    Raises NotAllowed, and Unavailable while so many ask that its turn did not come.
    """
    check_may_process(user)
    # SQLite lets those who wait for it starve; in one process they wait in turn.
    if not _turn.acquire(timeout=_TURN_SECONDS):
        raise Unavailable("many foremen ask at once; try again")
    try:
        return _dequeue(user, wish, now)
    finally:
        _turn.release()


def _dequeue(user: User, wish: Wish, now: datetime) -> list[Json]:
    with transaction.atomic():
        # One foreman at a time: they do not decide over the same tasks. The dispatcher may; then one of them is late.
        Lock.objects.get_or_create(name=_LOCK)
        Lock.objects.select_for_update().get(name=_LOCK)
        node = _node(user, wish, now)
        if node.mode != NodeMode.OPEN or not wish.number:
            return []
        placements = _placements(node, wish, conf(), now)
        attempts = records.assign_all([(one.task_id, node) for one in placements], now, conf().lease_seconds)
        tasks = Task.objects.in_bulk([one.task_id for one in attempts])
        until = now + timedelta(seconds=_hold_seconds(list(tasks.values()), conf()))
        for attempt in attempts:
            attempt.task = tasks[attempt.task_id]
            _start(attempt, node, until, now)
        if attempts:
            Node.objects.filter(pk=node.pk).update(lease_until=until)
        return [shown.task_json(tasks[one.task_id]) for one in attempts]


def _placements(node: Node, wish: Wish, settings: GridSettings, now: datetime) -> Sequence[Placement]:
    """What placement would give this node, were it the only one. It is empty: a foreman asks when it has nothing."""
    only = ~Q(spec__has_key="secrets") & (Q() if wish.network else ~Q(limits__network=True))
    backlogs = snapshot.backlogs(max(32, wish.number), wish.wants, only)
    if not backlogs:
        return ()
    everywhere = snapshot.nodes(now, settings.run_grace_seconds)
    view = snapshot.offer(node.name, wish.facts, ready=True, reason="", leases=())
    ceilings = quotas.ceilings({one.demand.owner for one in backlogs}, everywhere, now)
    policy = replace(settings.placement, ceilings=ceilings, max_placements=wish.number)
    decision = decide(backlogs, (view,), {}, current_shares(everywhere), now.timestamp(), policy)
    return decision.placements[: wish.number]


def _hold_seconds(tasks: Sequence[Task], settings: GridSettings) -> float:
    held = hold_seconds([float(task.limits.get("time") or 0.0) for task in tasks])
    return held + settings.staging_seconds + settings.upload_seconds + settings.run_grace_seconds


def _start(attempt: Attempt, node: Node, until: datetime, now: datetime) -> None:
    seconds = (until - now).total_seconds()
    # The end of the phase comes first: its words are the right ones for somebody from whom nothing else is heard.
    records.start(attempt, node.session, now, seconds + _SPARE_SECONDS, seconds, Phase.EXECUTING)


def _node(user: User, wish: Wish, now: datetime) -> Node:
    """The row of a foreman: one for each account and machine."""
    home = f"{references.foreman_home(user)}{wish.host}"[:500]
    node = Node.objects.filter(home=home).first()
    if node is None:
        node = Node.objects.create(name=_free_name(user, wish.host, home), home=home, created_at=now)
    news = {} if node.session == wish.session else {"facts": wish.facts.model_dump(mode="json")}
    Node.objects.filter(pk=node.pk).update(
        session=wish.session,
        ready=False,
        not_ready_reason=NOT_READY,
        last_seen=now,
        lease_until=now + timedelta(seconds=_SEEN_SECONDS),
        removed_at=None,
        **news,
    )
    if news:
        offers.forget()
    node.session = wish.session
    return node


def _free_name(user: User, host: str, home: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", "-".join(filter(None, ("kolejka", user.username, host))))[:63]
    if Node.objects.filter(name=name).exists():
        name = f"{name[:54]}-{hashlib.sha256(home.encode()).hexdigest()[:8]}"
    return name


# ------------------------------------------------------------------------------------------------------------- results


def report(user: User, said: Report, now: datetime) -> None:
    """Take what a foreman says of a task that it has; the same again is no fault. Raises NotAllowed, SpecError.

    A result for a task that is not the foreman's any more is refused: somebody else runs it, or nobody wants it.
    """
    check_may_process(user)
    task_id = OlderKey.objects.filter(key=said.task).values_list("task_id", flat=True).first() or said.task
    mine = Attempt.objects.filter(task_id=task_id, node__home__startswith=references.foreman_home(user))
    attempt = mine.select_related("task", "node").order_by("-number").first()
    if attempt is None or (attempt.state == AttemptState.ENDED and attempt.report is None):
        raise NotAllowed(f"the task {said.task} is not this foreman's, or not any more")
    if attempt.state == AttemptState.ENDED:
        return  # its answer was lost on the way
    found = references.resolve(user, set(said.files.values()), now)
    outcome = _outcome(attempt, said, _files(said, found))
    with transaction.atomic():
        references.hand_over(user, attempt.task.owner_id, found, now)
    outcomes.accept(attempt.node, outcome, now)


def _files(said: Report, found: dict[str, str]) -> dict[str, str]:
    """The contents of the files by their names in the result."""
    files, faults = {}, []
    for name, reference in said.files.items():
        try:
            files[normal_path(name)] = found[reference]
        except KeyError:
            faults.append(Fault(f"files.{name}", f"Reference for file {name} is unknown"))
        except ValueError as error:
            faults.append(Fault(f"files.{name}", str(error)))
    if faults:
        raise SpecError(faults)
    return files


def _outcome(attempt: Attempt, said: Report, files: dict[str, str]) -> Outcome:
    limits = Limits.model_validate(attempt.task.limits)
    spec = parse_spec(attempt.task.spec, default_name=attempt.task.name)
    evidence = evidence_of(said, limits).model_copy(update={"missing": missing_outputs(spec, list(files))})
    unheld = ("storage", "files", "output", "cpu_time")
    return Outcome(
        attempt=attempt.id,
        token=attempt.token,
        evidence=evidence,
        usage=said.usage,
        limits=limits,
        not_enforced=tuple(name for name in unheld if getattr(limits, name) is not None),
        files=tuple(OutputFile(path=path, sha256=sha256, size=0) for path, sha256 in files.items()),
    )
