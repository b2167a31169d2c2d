"""A record as a busy grid has it: of many tasks most have ended, some run, some wait, with all that belongs to them.

Run by ``load_stack`` in the server's environment: ``load_record.py NUMBER`` seeds so many tasks once; prints JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from load_inside import BATCH, batches, fleet_of  # first: it sets Django up

# isort: split
from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.utils import timezone

from grid.core import nodes, outcomes
from grid.core.ids import new_id
from grid.core.models import (
    Attempt,
    AuditEntry,
    Blob,
    BlobOwner,
    CpuSlice,
    Delivery,
    Demand,
    Event,
    InputFile,
    Node,
    NodeSample,
    OutputFile,
    Task,
    Token,
)
from grid.core.rows import insert
from grid.core.upkeep import heat
from tasks.states import AttemptState, Phase, TaskState
from tasks.verdicts import CLASS_OF, Verdict
from tests.django import builders as given

NODES = 100
USERS = 1000
OWNERS = 100
COURSES = 20
DAYS = 30
QUEUED = 20_000
RUNNING = 900
BESIDE = 100_000
# Of a hundred tasks that ended so many as each; the rest succeeded.
ENDS = {
    Verdict.EXIT_CODE: 12,
    Verdict.MEMORY_LIMIT: 5,
    Verdict.TIME_LIMIT: 4,
    Verdict.CANCELLED: 2,
    Verdict.NODE_LOST: 1,
}
_VERDICTS = [verdict for verdict, share in ENDS.items() for _ in range(share)]
_STATES = {Verdict.SUCCEEDED: TaskState.SUCCEEDED, Verdict.CANCELLED: TaskState.CANCELLED}


def record(count: int) -> dict[str, Any]:
    """Write ``count`` tasks and what belongs to them, unless they are there."""
    began = time.monotonic()
    missing = count - Task.objects.count()
    if missing > BATCH:
        now = timezone.now()
        scene = _Scene(missing, now)
        for part in batches(range(missing), BATCH):
            scene.write(part)
        _beside(scene.owners, scene.nodes, now)
    return {"seeded": max(missing, 0), "seconds": time.monotonic() - began}


class _Scene:
    """People, nodes, and a task that went all its way, of which the others are copies."""

    def __init__(self, count: int, now: datetime) -> None:
        self.count = count
        self.now = now
        fleet_of(NODES)
        Node.objects.update(lease_until=now + timedelta(days=365), ready=True)
        self.nodes = list(Node.objects.filter(name__startswith="sim").order_by("id"))
        self.owners = _people(now)[:OWNERS]
        self.attempt = _pattern(now)
        task = self.attempt.task
        self.data = Demand.objects.get(pk=task.demand_id).data
        self.taken = InputFile.objects.filter(task=task).values_list("blob_id", flat=True)[0]
        self.brought = OutputFile.objects.filter(attempt=self.attempt).values_list("blob_id", flat=True)[0]
        keys = [f"{number:064x}" for number in range(OWNERS)]
        data = [{**self.data, "key": key, "owner": str(one.pk)} for key, one in zip(keys, self.owners, strict=True)]
        insert(Demand(key=one["key"], owner_id=int(one["owner"]), data=one, active=True) for one in data)

    def write(self, part: tuple[int, ...]) -> None:
        """Write some of the tasks; the higher its number, the newer a task is."""
        with transaction.atomic():
            tasks = [self._task(number) for number in part]
            # Tasks and attempts name each other; the database looks at it at the end of the transaction.
            attempts = [
                self._attempt(task, number) for number, task in zip(part, tasks, strict=True) if task.attempt_id
            ]
            insert(tasks)
            insert(attempts)
            insert(_events(tasks))
            insert(InputFile(task=task, path="in.txt", blob_id=self.taken) for task in tasks)
            ended = [one for one in attempts if one.verdict == Verdict.SUCCEEDED]
            insert(OutputFile(attempt=one, path="out.txt", blob_id=self.brought) for one in ended)

    def _task(self, number: int) -> Task:
        owner, left = number % OWNERS, self.count - number
        at = self.now - timedelta(days=DAYS) * (left / self.count)
        pattern, course = self.attempt.task, f"c{number % COURSES}"
        facts: dict[str, Any] = {name: getattr(pattern, name) for name in _columns(Task)}
        facts |= {"id": new_id(), "name": f"exercise {number}", "owner_id": self.owners[owner].pk}
        facts |= {"labels": {"course": course}, "demand_id": f"{owner:064x}", "created_at": at, "queued_at": at}
        if left <= QUEUED + RUNNING:
            facts |= {"finished_at": None, "verdict": "", "verdict_class": "", "reason": "", "exit_code": None}
        if left <= QUEUED:
            waiting = {"state": TaskState.QUEUED, "attempt_id": None, "attempts_made": 0, "node_name": ""}
            return Task(**{**facts, **waiting, "started_at": None})
        facts |= {"attempt_id": new_id(), "node_name": self.nodes[number % NODES].name, "started_at": at}
        if left <= QUEUED + RUNNING:
            return Task(**{**facts, "state": TaskState.RUNNING})
        verdict = _verdict(number)
        end = {"state": _STATES.get(verdict, TaskState.FAILED), "verdict": verdict, "verdict_class": CLASS_OF[verdict]}
        return Task(**{**facts, **end, "finished_at": at, "exit_code": int(verdict is Verdict.EXIT_CODE)})

    def _attempt(self, task: Task, number: int) -> Attempt:
        facts: dict[str, Any] = {name: getattr(self.attempt, name) for name in _columns(Attempt)}
        facts |= {"id": task.attempt_id, "task_id": task.id, "node_id": self.nodes[number % NODES].pk}
        facts |= {"assigned_at": task.created_at, "started_at": task.created_at, "ended_at": task.finished_at}
        facts |= {"verdict": task.verdict, "verdict_class": task.verdict_class, "exit_code": task.exit_code}
        if task.state == TaskState.RUNNING:
            forever = self.now + timedelta(days=365)
            facts |= {"state": AttemptState.RUNNING, "phase": Phase.EXECUTING, "report": None, "lease_until": forever}
        return Attempt(**facts)


def _verdict(number: int) -> Verdict:
    """Which end a task has; runs through all the ends evenly, whoever owns it."""
    place = number * 37 // OWNERS % 100
    return _VERDICTS[place] if place < len(_VERDICTS) else Verdict.SUCCEEDED


def _people(now: datetime) -> list[User]:
    """People, ten in a group, each with a token."""
    User.objects.bulk_create(User(username=f"owner{number}", password="!") for number in range(USERS))  # noqa: S106
    users = list(User.objects.filter(username__startswith="owner").order_by("id"))
    groups = [Group.objects.create(name=f"seminar {number}") for number in range(USERS // 10)]
    members = User.groups.through
    insert(members(user_id=user.pk, group_id=groups[number // 10].pk) for number, user in enumerate(users))
    hashes = _hashes("token", USERS)
    insert(Token(owner=user, name="laptop", hash=next(hashes), scopes=["read"], created_at=now) for user in users)
    return users


def _pattern(now: datetime) -> Attempt:
    """The attempt of a task that went all its way."""
    _, attempt, order = given.running(now, owner=given.a_user("pattern"), files={"in.txt": {"content": "7\n"}})
    nodes.report_phase(attempt.node, attempt.id, order.token, Phase.EXECUTING, now)
    outcomes.accept(attempt.node, given.an_outcome(order, {"out.txt": b"49\n"}), now)
    return Attempt.objects.select_related("task").get(id=attempt.id)


def _events(tasks: list[Task]) -> Iterator[Event]:
    for task in tasks:
        yield Event(task_id=task.id, kind="submitted", at=task.created_at, data={"name": task.name})
        if task.finished_at:
            data = {"state": task.state, "verdict": task.verdict}
            yield Event(task_id=task.id, kind="ended", at=task.finished_at, data=data)


def _beside(owners: list[User], fleet: list[Node], now: datetime) -> None:
    """What is not of one task: contents, deliveries, the audit log, and how busy nodes and people were."""
    hashes = list(_hashes("blob", BESIDE))
    tasks = Task.objects.filter(finished_at__isnull=False).order_by("-id").values_list("id", "owner_id")
    slices = [heat.slice_of(now) - number * heat.SLICE for number in range(1, 7 * 144)]
    with transaction.atomic():
        insert(Blob(sha256=one, size=1000, created_at=now) for one in hashes)
        insert(BlobOwner(blob_id=one, owner=owners[place % OWNERS]) for place, one in enumerate(hashes))
        for model in (InputFile, OutputFile):
            used = model.objects.values_list("blob_id", flat=True)[0]
            insert(BlobOwner(blob_id=used, owner=owner) for owner in owners)
        insert(
            Delivery(task_id=task, owner_id=owner, url="https://host.example/", host="host.example", **_told(now))
            for task, owner in tasks[:BESIDE]
        )
        insert(
            AuditEntry(at=now, actor=owners[place % OWNERS].username, action="login", target=f"user {place}")
            for place in range(BESIDE)
        )
        whole = dict.fromkeys(("online", "ready", "cpus", "memory"), 1.0)
        insert(
            NodeSample(node=node, at=at, looks=10, running=9.0, others=0.0, **whole) for node in fleet for at in slices
        )
        insert(CpuSlice(owner=owner, at=at, seconds=60.0) for owner in owners for at in slices[:144])


def _told(now: datetime) -> dict[str, Any]:
    return {"state": "delivered", "made_at": now, "tries": 1, "tries_left": 5}


def _hashes(word: str, count: int) -> Iterator[str]:
    return (hashlib.sha256(f"{word} {number}".encode()).hexdigest() for number in range(count))


def _columns(model: type[models.Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(record(int(sys.argv[1]))) + "\n")
