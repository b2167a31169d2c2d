"""What has to happen inside the server's own code: seeding rows, and placing tasks with a stop-watch.

Run by ``load_stack``: ``load_inside.py COMMAND ARGUMENTS``, in the server's environment; prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

import django
from figures import rss_bytes

django.setup()

from django.conf import settings  # noqa: E402 - after django.setup
from django.contrib.auth.models import User  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from grid.core import fleet, intake, nodes  # noqa: E402
from grid.core.broker.publisher import Publisher  # noqa: E402
from grid.core.conf import conf  # noqa: E402
from grid.core.dispatcher import Dispatcher  # noqa: E402
from grid.core.ids import new_id  # noqa: E402
from grid.core.models import Attempt, Demand, Event, Lock, Node, Task  # noqa: E402
from grid.core.people.tokens import Scope, create  # noqa: E402
from grid.core.rows import insert  # noqa: E402
from tasks.order import Capacity, Facts, Hello  # noqa: E402
from tasks.states import AttemptState, TaskState  # noqa: E402
from tasks.verdicts import Verdict, VerdictClass  # noqa: E402

T = TypeVar("T")
OWNERS = 10
KINDS = 2
BATCH = 2000
ENFORCED = ("memory", "swap", "cpus", "pids", "time", "cpu_time", "storage", "files", "output", "network")
SLOTS = 10


def seed(count: int, ended: int = 0) -> dict[str, Any]:
    """Fill the queue up to ``count`` tasks of several owners and needs, and the record with ``ended`` others."""
    began = time.monotonic()
    # All have waited for longer than the grid's patience: whether it makes reservations must not differ by the length.
    now = timezone.now() - timedelta(hours=1)
    patterns = [_pattern(owner, kind, now) for kind in range(KINDS) for owner in range(OWNERS)]
    missing = count - Task.objects.filter(state=TaskState.QUEUED).count()
    _write(_copies(patterns, missing, now))
    failed = ended - Task.objects.filter(state=TaskState.FAILED).count()
    _write(_ended(patterns, failed, now))
    Demand.objects.update(active=True)
    if connection.vendor == "postgresql":
        # What autovacuum does by itself after some time.
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    return {"seeded": max(missing, 0), "seconds": time.monotonic() - began}


def _pattern(owner: int, kind: int, now: datetime) -> Task:
    """A task that came through the door, to be copied."""
    user, _ = User.objects.get_or_create(username=f"owner{owner}")
    limits = {"memory": "64M", "cpus": 0.25 * (kind + 1), "time": "30s"}
    spec = {"image": "busybox", "args": ["uname", "-a"], "limits": limits, "labels": {"course": f"c{owner}"}}
    task, _ = intake.submit(
        owner=user, spec=spec, contents={}, default_name="pattern", idempotency_key=f"pattern{kind}", now=now
    )
    return task


def _copies(patterns: list[Task], count: int, now: datetime) -> Iterator[Task]:
    columns = [field.attname for field in Task._meta.concrete_fields]
    for number in range(count):
        pattern = patterns[number % len(patterns)]
        facts = {name: getattr(pattern, name) for name in columns}
        fresh: dict[str, Any] = {
            "id": new_id(),
            "name": f"exercise {number}",
            "idempotency_key": "",
            "attempt_id": None,
        }
        fresh |= {"state": TaskState.QUEUED, "attempts_made": 0, "node_name": "", "verdict": "", "verdict_class": ""}
        yield Task(**{**facts, **fresh, "created_at": now, "queued_at": now, "started_at": None, "finished_at": None})


def _ended(patterns: list[Task], count: int, now: datetime) -> Iterator[Task]:
    for number, task in enumerate(_copies(patterns, count, now)):
        task.state, task.verdict = TaskState.FAILED, Verdict.EXIT_CODE
        task.verdict_class, task.reason, task.exit_code = VerdictClass.USER, "exit 1", 1
        task.node_name, task.started_at, task.finished_at = f"node{number % 100}", now, now
        yield task


def _write(tasks: Iterable[Task]) -> None:
    for rows in batches(tasks, BATCH):
        with transaction.atomic():
            insert(rows)
            insert(Event(task_id=one.id, kind="submitted", at=one.created_at, data={"name": one.name}) for one in rows)


def batches(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """The items, so many at a time."""
    each = iter(items)
    while batch := tuple(islice(each, size)):
        yield batch


def fleet_of(count: int) -> dict[str, Any]:
    """Make ``count`` nodes that have said hello, each with a token; print the tokens."""
    now = timezone.now()
    owner = User.objects.filter(is_superuser=True).first()
    if owner is None:
        raise SystemExit("the grid has no operator")
    found = {}
    for number in range(count):
        node = fleet.enlist(f"sim{number}", now)
        nodes.hello(node, Hello(session=f"s{number}", home=f"h{number}", facts=facts()), now)
        _, found[node.name] = create(owner=owner, name=f"node {node.name}", scopes=[Scope.NODE], now=now, node=node)
    return found


def facts() -> Facts:
    """What a node of ten slots says of itself."""
    capacity = Capacity(cpus=64, memory=256 * 1024**3, storage=1024**4, slots=SLOTS)
    return Facts(capacity=capacity, enforces=ENFORCED, images=("busybox:latest",))


def dispatch(rounds: int) -> dict[str, Any]:
    """Fill all nodes ``rounds`` times, then free one slot at a time; what both cost, wall and processor."""
    publisher = Publisher(conf().broker_url)
    dispatcher = Dispatcher(conf(), publisher, "load", "127.0.0.1:9")
    if not dispatcher.lead(timezone.now()):
        raise SystemExit("another dispatcher leads")
    _free_all()
    dispatcher.dispatch(timezone.now)  # caches are cold
    yard = [_yardstick()]
    filled = [_timed(dispatcher, None) for _ in range(rounds)]
    yard.append(_yardstick())
    single = [_timed(dispatcher, 1) for _ in range(20)]
    yard.append(_yardstick())
    dispatcher.step_down()
    publisher.close()
    return {
        "placed": sum(one[0] for one in filled),
        "wall": sum(one[1] for one in filled),
        "cpu": sum(one[2] for one in filled),
        "single_cpu": sum(one[2] for one in single) / max(1, sum(one[0] for one in single)),
        "yard": sum(yard[:2]) / 2,
        "yard_single": sum(yard[1:]) / 2,
        "rss": rss_bytes(os.getpid(), peak=True),
    }


def _yardstick() -> float:
    """Processor seconds of something that is always the same: the machine's speed drifts with what else it does."""
    cpu = time.process_time()
    for _ in range(500):
        Lock.objects.filter(name="dispatcher").values_list("fence", flat=True).first()
    return (time.process_time() - cpu) / 500


def _timed(dispatcher: Dispatcher, free: int | None) -> tuple[int, float, float]:
    _free_all(free)
    # The lease is the dispatcher's own; renewing it is a part of its work, but not of a placement.
    dispatcher.lead(timezone.now())
    wall, cpu = time.perf_counter(), time.process_time()
    placed = dispatcher.dispatch(timezone.now)
    return placed, time.perf_counter() - wall, time.process_time() - cpu


def _free_all(count: int | None = None) -> None:
    """End what is on the nodes (or ``count`` of it) as if it had run; and let no node lapse meanwhile."""
    now = timezone.now()
    Node.objects.update(lease_until=now + timedelta(hours=1), ready=True)
    active = Attempt.objects.exclude(state=AttemptState.ENDED).order_by("id").values_list("id", "task_id")
    for rows in batches(islice(active, count) if count else active, 500):
        attempts, tasks = [one for one, _ in rows], [task for _, task in rows]
        facts = {"verdict": Verdict.SUCCEEDED, "verdict_class": VerdictClass.SUCCESS}
        with transaction.atomic():
            Attempt.objects.filter(id__in=attempts).update(state=AttemptState.ENDED, ended_at=now, **facts)
            Task.objects.filter(id__in=tasks).update(state=TaskState.SUCCEEDED, finished_at=now, **facts)


def session() -> dict[str, Any]:
    """Log the operator in, and print the cookie of the pages."""
    client = Client()
    client.force_login(User.objects.filter(is_superuser=True).get())
    return {"cookie": f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "session": session,
    "seed": seed,
    "fleet": fleet_of,
    "dispatch": dispatch,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(COMMANDS[sys.argv[1]](*map(int, sys.argv[2:]))) + "\n")
