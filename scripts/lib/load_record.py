"""A record as a busy grid has it: of many tasks most have ended, some run, some wait, with all that belongs to them.

Run by ``load_stack`` in the server's environment: ``load_record.py NUMBER`` seeds so many tasks once; prints JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from load_inside import batches, fleet_of  # first: it sets Django up

# isort: split
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.utils import timezone
from load_rows import Row, Rows, analyze, unchecked

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

BATCH = 20_000
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
        with unchecked():
            for part in batches(range(missing), BATCH):
                scene.write(part)
        _beside(scene.owners, scene.nodes, now)
        analyze()
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
        attempt = _pattern(now)
        taken = InputFile.objects.filter(task=attempt.task).values_list("blob_id", flat=True)[0]
        brought = OutputFile.objects.filter(attempt=attempt).values_list("blob_id", flat=True)[0]
        self.tasks, self.attempts = _copied(attempt.task), _copied(attempt)
        self.inputs = Rows(InputFile, path="in.txt", blob_id=taken)
        self.outputs = Rows(OutputFile, path="out.txt", blob_id=brought)
        self.submitted = Rows(Event, kind="submitted", data={"name": "exercise"})
        self.ended = Rows(Event, kind="ended", data={"state": "succeeded", "verdict": "succeeded"})
        self.labels = [self.tasks.ready("labels", {"course": f"c{number}"}) for number in range(COURSES)]
        self._demands(Demand.objects.get(pk=attempt.task.demand_id).data)

    def _demands(self, pattern: dict[str, Any]) -> None:
        keys = [f"{number:064x}" for number in range(OWNERS)]
        data = [{**pattern, "key": key, "owner": str(one.pk)} for key, one in zip(keys, self.owners, strict=True)]
        insert(Demand(key=one["key"], owner_id=int(one["owner"]), data=one, active=True) for one in data)

    def write(self, part: tuple[int, ...]) -> None:
        """Write some of the tasks; the higher its number, the newer a task is."""
        made = [_Made(number, self.count - number, new_id(), new_id()) for number in part]
        begun = [one for one in made if one.left > QUEUED]
        ended = [one for one in made if one.left > QUEUED + RUNNING]
        with transaction.atomic():
            self.tasks.write(map(self._task, made))
            self.attempts.write(map(self._attempt, begun))
            self.inputs.write(self.inputs.row(task_id=one.task) for one in made)
            good = (one for one in ended if _verdict(one.number) is Verdict.SUCCEEDED)
            self.outputs.write(self.outputs.row(attempt_id=one.attempt) for one in good)
            self.submitted.write(self.submitted.row(task_id=one.task, at=self._at(one)) for one in made)
            self.ended.write(self.ended.row(task_id=one.task, at=self._at(one)) for one in ended)

    def _at(self, one: _Made) -> Any:
        return self.tasks.ready("created_at", self.now - timedelta(days=DAYS) * (one.left / self.count))

    def _task(self, one: _Made) -> Row:
        owner, at = one.number % OWNERS, self._at(one)
        facts: dict[str, Any] = {"id": one.task, "name": f"exercise {one.number}", "owner_id": self.owners[owner].pk}
        facts |= {"labels": self.labels[one.number % COURSES], "demand_id": f"{owner:064x}"}
        facts |= {"created_at": at, "queued_at": at}
        if one.left <= QUEUED + RUNNING:
            facts |= {"finished_at": None, "verdict": "", "verdict_class": "", "reason": "", "exit_code": None}
        if one.left <= QUEUED:
            waiting = {"state": TaskState.QUEUED, "attempt_id": None, "attempts_made": 0, "node_name": ""}
            return self.tasks.row(**facts, **waiting, started_at=None)
        facts |= {"attempt_id": one.attempt, "node_name": self.nodes[one.number % NODES].name, "started_at": at}
        if one.left <= QUEUED + RUNNING:
            return self.tasks.row(**facts, state=TaskState.RUNNING)
        verdict = _verdict(one.number)
        end = {"state": _STATES.get(verdict, TaskState.FAILED), **_end(verdict), "finished_at": at}
        return self.tasks.row(**facts, **end)

    def _attempt(self, one: _Made) -> Row:
        at = self._at(one)
        facts: dict[str, Any] = {"id": one.attempt, "task_id": one.task, "node_id": self.nodes[one.number % NODES].pk}
        facts |= {"assigned_at": at, "started_at": at}
        if one.left > QUEUED + RUNNING:
            return self.attempts.row(**facts, **_end(_verdict(one.number)), ended_at=at)
        forever = self.attempts.ready("lease_until", self.now + timedelta(days=365))
        runs = {"state": AttemptState.RUNNING, "phase": Phase.EXECUTING, "report": None, "lease_until": forever}
        return self.attempts.row(**facts, **runs, ended_at=None, verdict="", verdict_class="", exit_code=None)


@dataclass(frozen=True, slots=True)
class _Made:
    """A task to be written: its number, how many are newer or the same, its id and that of its attempt."""

    number: int
    left: int
    task: str
    attempt: str


def _copied(pattern: Task | Attempt) -> Rows:
    kind = type(pattern)
    return Rows(kind, **{field.attname: getattr(pattern, field.attname) for field in kind._meta.concrete_fields})


def _end(verdict: Verdict) -> dict[str, Any]:
    return {"verdict": verdict, "verdict_class": CLASS_OF[verdict], "exit_code": int(verdict is Verdict.EXIT_CODE)}


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


def _beside(owners: list[User], fleet: list[Node], now: datetime) -> None:
    """What is not of one task: contents, deliveries, the audit log, and how busy nodes and people were."""
    hashes = list(_hashes("blob", BESIDE))
    tasks = Task.objects.filter(finished_at__isnull=False).order_by("-id").values_list("id", "owner_id")
    slices = [heat.slice_of(now) - number * heat.SLICE for number in range(1, 7 * 144)]
    blobs, told = Rows(Blob, size=1000, created_at=now), Rows(Delivery, url="https://host.example/", **_told(now))
    known, noted = Rows(BlobOwner), Rows(AuditEntry, at=now, action="login")
    samples, spent = Rows(NodeSample, looks=10, running=9.0, others=0.0, **_whole()), Rows(CpuSlice, seconds=60.0)
    times = [samples.ready("at", at) for at in slices]
    with transaction.atomic():
        blobs.write(blobs.row(sha256=one) for one in hashes)
        known.write(known.row(blob_id=one, owner_id=owners[place % OWNERS].pk) for place, one in enumerate(hashes))
        for model in (InputFile, OutputFile):
            used = model.objects.values_list("blob_id", flat=True)[0]
            insert(BlobOwner(blob_id=used, owner=owner) for owner in owners)
        told.write(told.row(id=new_id(), task_id=task, owner_id=owner) for task, owner in tasks[:BESIDE])
        noted.write(noted.row(actor=owners[place % OWNERS].username, target=f"user {place}") for place in range(BESIDE))
        samples.write(samples.row(node_id=node.pk, at=at) for node in fleet for at in times)
        spent.write(spent.row(owner_id=owner.pk, at=at) for owner in owners for at in times[:144])


def _whole() -> dict[str, float]:
    return dict.fromkeys(("online", "ready", "cpus", "memory"), 1.0)


def _told(now: datetime) -> dict[str, Any]:
    return {"host": "host.example", "state": "delivered", "made_at": now, "tries": 1, "tries_left": 5}


def _hashes(word: str, count: int) -> Iterator[str]:
    return (hashlib.sha256(f"{word} {number}".encode()).hexdigest() for number in range(count))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(record(int(sys.argv[1]))) + "\n")
