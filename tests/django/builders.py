"""Builders of the grid's records for tests: each makes a valid thing, changed only where the story needs it."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User

from grid.core import intake, nodes, outcomes, records
from grid.core.models import Attempt, Node, Task
from tasks.order import AttemptPulse, Capacity, Facts, Heartbeat, Hello, Order
from tasks.outcome import Evidence, Outcome, OutputFile
from tasks.states import Phase

EVERY_LIMIT = ("memory", "swap", "cpus", "pids", "time", "cpu_time", "storage", "files", "output", "network")
LEASE_SECONDS = 30.0


def a_user(name: str = "ada", *, staff: bool = False) -> User:
    """A user of that name, made once."""
    return User.objects.get_or_create(username=name, defaults={"is_staff": staff})[0]


def facts(**changes: Any) -> Facts:
    """What a node of four cores says of itself."""
    capacity = Capacity(cpus=4, memory=8 * 1024**3, storage=100 * 1024**3, slots=8)
    return Facts(**{"capacity": capacity, "enforces": EVERY_LIMIT, "images": ("busybox:latest",), **changes})


def a_node(now: datetime, name: str = "alpha", **changes: Any) -> Node:
    """A node that has just said hello."""
    node, _ = Node.objects.get_or_create(name=name, defaults={"created_at": now})
    nodes.hello(node, Hello(session=secrets.token_hex(8), home="one:/var", facts=facts(**changes)), now)
    node.refresh_from_db()
    return node


def a_spec(**changes: Any) -> dict[str, Any]:
    """A task JSON that runs ``uname``."""
    return {"image": "busybox", "args": ["uname"], "limits": {"memory": "64M", "cpus": 1, "time": "5s"}, **changes}


def a_task(now: datetime, owner: User | None = None, key: str = "", **changes: Any) -> Task:
    """A submitted task."""
    spec = a_spec(**changes)
    task, _ = intake.submit(
        owner=owner or a_user(), spec=spec, contents={}, default_name="uname", idempotency_key=key, now=now
    )
    return task


def assigned(task: Task, node: Node, now: datetime) -> Attempt:
    """The attempt of a queued task that was given to a node."""
    attempt = records.assign(task.id, node, now, LEASE_SECONDS)
    assert attempt is not None
    return attempt


def taken(attempt: Attempt, now: datetime) -> Order:
    """The order of an attempt that its node took up."""
    node = attempt.node
    return nodes.take(node, attempt.id, node.session, attempt.nonce, now)


def running(now: datetime, **changes: Any) -> tuple[Task, Attempt, Order]:
    """A task that runs on node alpha."""
    node = a_node(now)
    task = a_task(now, **changes)
    attempt = assigned(task, node, now)
    return task, attempt, taken(attempt, now)


def an_outcome(order: Order, files: Mapping[str, bytes] | None = None, **evidence: Any) -> Outcome:
    """The report of an attempt: exit code 0 unless the evidence says otherwise; the files come inline."""
    contents = files or {}
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    return Outcome(
        attempt=order.attempt,
        token=order.token,
        evidence=Evidence(**{"exit_code": 0, **evidence}),
        limits=order.limits,
        files=tuple(OutputFile(path=path, sha256=hashes[path], size=len(contents[path])) for path in contents),
        inline={hashes[path]: base64.b64encode(contents[path]).decode() for path in contents},
    )


def finished(order: Order, node: Node, now: datetime, **evidence: Any) -> None:
    """The node reports the attempt's end."""
    outcomes.accept(node, an_outcome(order, **evidence), now)


def a_beat(node: Node, *orders: Order, phase: Phase = Phase.EXECUTING, **changes: Any) -> Heartbeat:
    """A heartbeat of a node that holds these orders."""
    pulses = tuple(AttemptPulse(attempt=one.attempt, token=one.token, phase=phase) for one in orders)
    return Heartbeat(**{"session": node.session, "attempts": pulses, **changes})


def later(now: datetime, seconds: float) -> datetime:
    """So many seconds after ``now``."""
    return now + timedelta(seconds=seconds)
