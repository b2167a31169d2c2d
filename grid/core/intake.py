"""The one door: every submit, from whatever side, ends here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from grid.core import offers, policy, records
from grid.core.conf import conf
from grid.core.contents import blobs
from grid.core.contents.store import Stored
from grid.core.models import InputFile, Secret, Task
from grid.core.people import access, quotas, standing
from grid.core.rows import insert
from tasks.errors import Conflict, Fault, SpecError, TooLarge
from tasks.files import FileSpec
from tasks.limits import Limits
from tasks.placement import Demand
from tasks.spec import TaskSpec, parse_spec, spec_hash
from tasks.usual import likeness


@dataclass(frozen=True, slots=True)
class Wanted:
    """A task as it was asked for, its files as references, with what follows from it; ``digest`` is its hash."""

    spec: TaskSpec
    digest: str
    limits: Limits
    demand: Demand


def upload(owner: User, chunks: Iterable[bytes], sha256: str | None, now: datetime) -> Stored:
    """Store a file for later tasks of ``owner``.

    Raises SpecError for a wrong hash, TooLarge over the server's cap or a quota, NotAllowed for who may not submit.
    """
    access.check_submit(owner)
    if sha256 is None:
        # A small one that came along: it is hashed first, to know whether it is new.
        chunks = [b"".join(chunks)]
        sha256 = hashlib.sha256(chunks[0]).hexdigest()
    if blobs.owned(owner.pk, [sha256]):
        # They have it already: it takes no room.
        return blobs.keep(owner.pk, chunks, sha256, conf().max_blob_bytes, now=now)
    room, most = quotas.room_to_store(owner.pk, now), conf().max_blob_bytes
    try:
        stored = blobs.keep(owner.pk, chunks, sha256, most if room is None else min(room, most), now=now)
    except TooLarge:
        if room is not None and room < most:
            quotas.refuse_stored(owner.pk, room + 1, now)
        raise
    quotas.note_stored(owner.pk, stored.size)
    return stored


def submit(
    *,
    owner: User,
    spec: object,
    contents: Mapping[str, bytes],
    default_name: str,
    idempotency_key: str,
    now: datetime,
) -> tuple[Task, bool]:
    """Make a task of a description; return it, and whether it is new.

    ``contents`` are small files by sha256 that the spec refers to. A known ``idempotency_key`` gives its task again.
    Raises SpecError with every fault, Conflict for a key of another description, NotAllowed for who may not submit.
    """
    access.check_submit(owner)
    parsed = parse_spec(spec, default_name=default_name)
    for sha256, content in contents.items():
        upload(owner, [content], sha256, now)
    stored = with_references(parsed, lambda content: upload(owner, [content], None, now).sha256)
    digest = spec_hash(stored)
    known = _known(owner, idempotency_key, digest)
    if known is not None:
        return known, False
    stored = as_meant(owner, stored, now)
    limits = policy.effective_limits(stored, conf(), standing.caps(owner.pk, now))
    demand = policy.demand_of(owner.pk, stored, limits)
    references = [file.reference or "" for file in stored.files.values()]
    faults = missing_files(stored, access.missing_blobs(owner, references, now)) + refusals(owner, stored, demand, now)
    if faults := faults + quotas.submit_faults(owner.pk, 1, now):
        raise SpecError(faults)
    try:
        with transaction.atomic():
            task = made_of(owner, Wanted(stored, digest, limits, demand), idempotency_key, now)
            records.create(task, policy.demand_data(demand), stored.after, now)
            insert(inputs_of(task, stored))
            return task, True
    except IntegrityError:
        # The same request came twice at the same moment, and the other was first.
        known = _known(owner, idempotency_key, digest)
        if known is not None:
            return known, False
        # Or a file was so old that it was deleted at this very moment.
        if faults := missing_files(stored, access.missing_blobs(owner, references, now)):
            raise SpecError(faults) from None
        raise


def as_meant(owner: User, spec: TaskSpec, now: datetime) -> TaskSpec:
    """The spec with the image that is meant by the name in it."""
    meant = standing.image_for(owner.pk, spec.image, conf(), now) if spec.image else spec.image
    return spec if meant == spec.image else spec.model_copy(update={"image": meant})


def _known(owner: User, key: str, digest: str) -> Task | None:
    # The exclusion says what the index's condition says; without it SQLite would read all tasks of the owner.
    keyed = Task.objects.filter(owner=owner, idempotency_key=key).exclude(idempotency_key="")
    found = keyed.first() if key else None
    if found is not None:
        refuse_other(found, key, digest)
    return found


def refuse_other(found: Task, key: str, digest: str) -> None:
    """A key stands for one task; raises Conflict when it was used for another than the one with this hash."""
    if found.spec_hash != digest:
        raise Conflict(f"the idempotency key {key} was used for another task, {found.id}; take a new one")


def with_references(spec: TaskSpec, keep: Callable[[bytes], str]) -> TaskSpec:
    """The spec with every file as a reference: content written in it is kept, paths have no meaning here.

    ``keep`` stores a content and returns its sha256. Raises SpecError with every file that has neither.
    """
    files: dict[str, FileSpec] = {}
    faults = []
    for name, file in spec.files.items():
        if file.content is not None:
            files[name] = FileSpec(reference=keep(file.content.encode()), executable=file.executable)
        elif file.reference is not None:
            files[name] = file
        else:
            faults.append(
                Fault(f"files.{name}", "its content did not come along", 'send it and name it by {"reference": sha256}')
            )
    if faults:
        raise SpecError(faults)
    return spec.model_copy(update={"files": files})


def missing_files(spec: TaskSpec, missing: Collection[str]) -> list[Fault]:
    """The files of a spec whose content is among those that are missing."""
    return [
        Fault(f"files.{name}", f"the content {file.reference} is not stored here, or is not yours", "upload it first")
        for name, file in spec.files.items()
        if file.reference in missing
    ]


def refusals(owner: User, spec: TaskSpec, demand: Demand, now: datetime) -> list[Fault]:
    """Why this server does not take a task, its files and quotas aside."""
    faults = [*policy.policy_faults(spec, conf()), *policy.owner_faults(owner.pk, spec, conf(), now)]
    have = spec.secrets and set(
        Secret.objects.filter(owner=owner, name__in=spec.secrets).values_list("name", flat=True)
    )
    faults += [
        Fault("secrets", f'there is no secret "{name}"', f"store it first: grid secret set {name}")
        for name in spec.secrets
        if name not in have
    ]
    visible = spec.after and set(access.visible_tasks(owner).filter(id__in=spec.after).values_list("id", flat=True))
    faults += [
        Fault("after", f"there is no task {task_id}, or it is not yours")
        for task_id in spec.after
        if task_id not in visible
    ]
    return faults + _unrunnable(spec, demand)


def _unrunnable(spec: TaskSpec, demand: Demand) -> list[Fault]:
    """A task that no node of this grid could ever run would wait for ever; it is refused while its author is there."""
    offered = offers.current()
    if offered is None:
        return []
    faults = []
    if reasons := offered.never_runs(demand):
        faults.append(Fault("", "no node of this grid can ever run it: " + "; ".join(reasons)))
    if spec.image and (fault := offered.image_fault(spec.image)):
        faults.append(fault)
    return faults


def made_of(owner: User, wanted: Wanted, idempotency_key: str, now: datetime) -> Task:
    """The row of a new task, which is not written yet."""
    spec = wanted.spec
    data: dict[str, Any] = spec.model_dump(mode="json", exclude_defaults=True)
    return Task(
        owner=owner,
        name=spec.name or "task",
        labels=dict(spec.labels),
        priority=spec.priority,
        spec=data,
        spec_hash=wanted.digest,
        likeness=likeness(spec),
        limits=wanted.limits.model_dump(mode="json", exclude_none=True),
        demand_id=wanted.demand.key,
        idempotency_key=idempotency_key,
        expires_at=now + timedelta(seconds=spec.expires) if spec.expires else None,
    )


def inputs_of(task: Task, spec: TaskSpec) -> list[InputFile]:
    """The rows of its input files."""
    return [
        InputFile(task=task, path=name, blob_id=file.reference or "", executable=bool(file.executable))
        for name, file in spec.files.items()
    ]
