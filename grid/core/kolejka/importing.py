"""Bring accounts, contents, tasks and results of a kolejka server over; what came before is not brought again."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import transaction

from grid.core import intake, policy
from grid.core.contents import blobs
from grid.core.contents.content import Stored
from grid.core.kolejka import clients
from grid.core.kolejka.source import OldReference, OldTask, OldUser, Source
from grid.core.models import Attempt, Blob, Demand, Node, OlderKey, OutputFile, Reference, Task
from grid.core.people import access
from grid.core.rows import insert
from tasks.dialects.kolejka import read_task
from tasks.dialects.kolejka_results import Report, evidence_of, read_result
from tasks.errors import GridError, SpecError
from tasks.files import normal_path
from tasks.limits import Limits
from tasks.order import Capacity, Facts
from tasks.outcome import Outcome
from tasks.spec import TaskSpec, parse_spec, spec_hash
from tasks.states import AttemptState
from tasks.verdicts import final_state, judge

_SHA256_DIGITS = 64
_TELL_EVERY = 500
_BEFORE = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Tally:
    """What was brought over and what was not; ``problems`` says why not, line by line."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class Importer:
    """One run. With ``dry`` nothing is written; with ``queue`` tasks without a result are submitted here anew."""

    def __init__(
        self, source: Source, *, dry: bool = False, queue: bool = False, tell: Callable[[str], object] = str
    ) -> None:
        self._source = source
        self._dry = dry
        self._queue = queue
        self._tell = tell
        self._users: dict[int, User | None] = {}
        self.tally = Tally()

    def run(self, now: datetime) -> Tally:
        """Bring over all there is."""
        self._people()
        for number, reference in enumerate(self._source.references(), 1):
            self._reference(reference, now)
            if number % _TELL_EVERY == 0:
                self._tell(f"{number} references")
        for number, task in enumerate(self._source.all_tasks(), 1):
            try:
                self._task(task, now)
            except GridError as error:
                self._problem("tasks unreadable", f"task {task.key}: {error}")
            if number % _TELL_EVERY == 0 or number == self._source.tasks:
                self._tell(f"{number} of {self._source.tasks} tasks")
        if not self._dry:
            access.forget()
        return self.tally

    def _problem(self, kind: str, words: str) -> None:
        self.tally.counts[kind] += 1
        self.tally.problems.append(" ".join(words.split()))

    # ---------------------------------------------------------------------------------------------------------- people
    def _people(self) -> None:
        for name in self._source.groups():
            if not Group.objects.filter(name=name).exists():
                self.tally.counts["groups"] += 1
                if not self._dry:
                    Group.objects.create(name=name)
        for old in self._source.users():
            self._users[old.id] = self._user(old)

    def _user(self, old: OldUser) -> User | None:
        """The account of this name: the one that is here keeps its password and its rights."""
        user = User.objects.filter(username=old.name).first()
        if user is not None:
            self.tally.counts["users known"] += 1
            return user
        self.tally.counts["users"] += 1
        if self._dry:
            return None
        user = User(**old.values)
        with transaction.atomic():
            user.save()
            user.groups.set(Group.objects.filter(name__in=old.groups))
        return user

    # ----------------------------------------------------------------------------------------------------------- files
    def _reference(self, old: OldReference, now: datetime) -> None:
        if Reference.objects.filter(key=old.key).exists():
            self.tally.counts["references known"] += 1
            return
        chunks = self._source.chunks(old.sha256) if len(old.sha256) == _SHA256_DIGITS else None
        if chunks is None:
            self._problem("references without a file", f"reference {old.key}: the content {old.sha256} is not there")
            return
        self.tally.counts["references"] += 1
        owner = self._users.get(old.user)
        if self._dry or owner is None:
            return
        try:
            blob = Blob.objects.filter(sha256=old.sha256, doomed_at=None).first()
            if blob is None:
                blobs.keep(owner.pk, chunks, old.sha256, None, now=now)
            else:
                blobs.note(owner.pk, [Stored(old.sha256, blob.size)], now)
        except SpecError as error:
            self._problem("contents broken", f"reference {old.key}: {error}")
            return
        # From now on it counts as used, so that nothing goes before anybody had the time to look.
        Reference.objects.create(
            key=old.key,
            owner=owner,
            blob_id=old.sha256,
            public=old.public,
            created_at=old.created_at,
            accessed_at=now,
        )

    # ----------------------------------------------------------------------------------------------------------- tasks
    def _task(self, old: OldTask, now: datetime) -> None:
        """One task; raises GridError for one that cannot be read."""
        if OlderKey.objects.filter(key=old.key).exists():
            self.tally.counts["tasks known"] += 1
            return
        if old.result is None:
            self._unresolved(old, now)
            return
        spec, report = _spec(old), read_result(old.result)
        owner = self._users.get(old.user)
        self.tally.counts["tasks"] += 1
        if self._dry or owner is None:
            return
        have = set(Blob.objects.filter(sha256__in=old.contents.values()).values_list("sha256", flat=True))
        files = {name: file for name, file in spec.files.items() if file.reference in have}
        if len(files) < len(spec.files):
            self._problem("tasks without all files", f"task {old.key}: some of its input files are not there")
        spec = spec.model_copy(update={"files": files})
        with transaction.atomic():
            _write(old, owner, spec, report, have)

    def _unresolved(self, old: OldTask, now: datetime) -> None:
        if not self._queue:
            self.tally.counts["tasks without a result, left"] += 1
            return
        owner = self._users.get(old.user)
        self.tally.counts["tasks queued"] += 1
        if self._dry or owner is None:
            return
        task = clients.submit(owner, old.description, now)
        OlderKey.objects.create(key=old.key, task=task)


def _spec(old: OldTask) -> TaskSpec:
    """What the task was, in our words; raises SpecError."""
    reading = read_task(old.description, network_allowed=True)
    known = {reference: old.contents.get(reference, "") for reference in reading.references.values()}
    wanted = reading.labelled(known)
    wanted["files"] = {name: file for name, file in wanted.get("files", {}).items() if file["reference"]}
    return parse_spec(wanted, default_name="kolejka")


def _write(old: OldTask, owner: User, spec: TaskSpec, report: Report, have: set[str]) -> None:
    """The rows of a task that has ended; its time of creation gives it its place in lists."""
    limits = spec.limits
    demand = policy.demand_of(owner.pk, spec, limits)
    Demand.objects.get_or_create(key=demand.key, defaults={"owner": owner, "data": policy.demand_data(demand)})
    task = intake.made_of(owner, intake.Wanted(spec, spec_hash(spec), limits, demand), "", old.created_at)
    finished = old.finished_at or old.created_at
    evidence = evidence_of(report, limits)
    judgement = judge(evidence, report.usage, limits, spec.args)
    node = _node(report)
    verdict: Mapping[str, Any] = {
        "verdict": judgement.verdict,
        "verdict_class": judgement.verdict_class,
        "reason": judgement.reason,
        "advice": judgement.advice,
        "exit_code": report.exit_code,
    }
    moments = {"created_at": old.created_at, "queued_at": old.created_at, "finished_at": finished}
    named = {"id": _id(old), "attempts_made": 1, "node_name": node.name, "state": final_state(judgement.verdict)}
    for name, value in {**moments, **named, **verdict, "started_at": old.assigned_at}.items():
        setattr(task, name, value)
    insert([task])
    insert(intake.inputs_of(task, spec))
    attempt = _attempt(old, task, node, verdict, _report(report, limits))
    Task.objects.filter(id=task.id).update(attempt=attempt)
    insert(_outputs(attempt, old, report, have))
    OlderKey.objects.create(key=old.key, task=task)


def _attempt(old: OldTask, task: Task, node: Node, verdict: Mapping[str, Any], report: dict[str, Any]) -> Attempt:
    begun, ended = old.assigned_at or old.created_at, old.finished_at or old.created_at
    attempt = Attempt(
        task=task,
        number=1,
        node=node,
        state=AttemptState.ENDED,
        nonce="",
        token="",
        assigned_at=begun,
        started_at=begun,
        ended_at=ended,
        lease_until=ended,
        phase_deadline=ended,
        decision="imported from kolejka",
        report=report,
        **verdict,
    )
    insert([attempt])
    return attempt


def _report(report: Report, limits: Limits) -> dict[str, Any]:
    outcome = Outcome(attempt="", token="", evidence=evidence_of(report, limits), usage=report.usage, limits=limits)
    return outcome.model_dump(mode="json", exclude={"token", "inline", "log_tails", "files", "attempt"})


def _outputs(attempt: Attempt, old: OldTask, report: Report, have: set[str]) -> list[OutputFile]:
    outputs = []
    for name, reference in report.files.items():
        sha256 = old.contents.get(reference, "")
        try:
            path = normal_path(name)
        except ValueError:
            continue
        if sha256 in have:
            outputs.append(OutputFile(attempt=attempt, path=path, blob_id=sha256))
    return outputs


def _node(report: Report) -> Node:
    """The machine that it ran on, as one that was removed: nothing is ever sent there."""
    host = next((tag.removeprefix("hostname:") for tag in report.tags if tag.startswith("hostname:")), "")
    home = f"imported:{host}"[:500]
    node = Node.objects.filter(home=home).first()
    if node is not None:
        return node
    facts = Facts(tags=report.tags, capacity=Capacity(cpus=0, memory=0, slots=1), version="kolejka")
    word = hashlib.sha256(home.encode()).hexdigest()[:8]
    return Node.objects.create(
        name=f"imported-{word}",
        home=home,
        facts=facts.model_dump(mode="json"),
        created_at=_BEFORE,
        removed_at=_BEFORE,
    )


def _id(old: OldTask) -> str:
    """An id as our own are, of the time at which the task was made; the same at each run."""
    milliseconds = max(0, int(old.created_at.timestamp() * 1000))
    word = hashlib.sha256(old.key.encode()).hexdigest()
    return f"{milliseconds:012x}7{word[:3]}8{word[3:18]}"
