"""Many tasks in one submit: all are checked before any is written, and all are written or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from grid.core import intake, policy, records
from grid.core.conf import conf
from grid.core.intake import Wanted
from grid.core.models import InputFile, Task
from grid.core.people import access, quotas, standing
from grid.core.rows import insert
from tasks.errors import Conflict, Fault, SpecError
from tasks.limits import Limits
from tasks.placement import Demand
from tasks.spec import TaskSpec, parse_spec, spec_hash

# So many faults are told; a mistake in a script is the same in all of its tasks.
MOST_FAULTS = 50


@dataclass(frozen=True, slots=True)
class Wish:
    """One task as it was asked for; ``default_name`` is used when the description has none."""

    spec: object
    default_name: str = ""


def submit_all(
    *, owner: User, wishes: Sequence[Wish], contents: Mapping[str, bytes], idempotency_key: str, now: datetime
) -> tuple[list[Task], bool]:
    """Make a task of each wish, in their order; return them, and whether they are new.

    ``contents`` are small files by sha256 that the specs refer to. The same ``idempotency_key`` gives the same tasks
    again. Raises SpecError with the faults of all wishes, ``tasks[3].image`` say, Conflict as ``intake.submit``.
    """
    access.check_submit(owner)
    specs = _parsed(wishes)
    for sha256, content in contents.items():
        intake.upload(owner, [content], sha256, now)
    keep = lru_cache(maxsize=1000)(lambda content: intake.upload(owner, [content], None, now).sha256)
    wanted = _checked(owner, [intake.with_references(spec, keep) for spec in specs], now)
    keys = [f"{idempotency_key}/{number}" if idempotency_key else "" for number in range(len(wanted))]
    known = _known(owner, keys, wanted)
    if known:
        return known, False
    _refuse(quotas.submit_faults(owner.pk, len(wanted), now))
    try:
        with transaction.atomic():
            return _write(owner, wanted, keys, now), True
    except IntegrityError:
        # The same request came twice at the same moment, and the other was first.
        known = _known(owner, keys, wanted)
        if known:
            return known, False
        # Or a file was so old that it was deleted at this very moment; then it is named among the faults.
        _checked(owner, [one.spec for one in wanted], now)
        raise


def _parsed(wishes: Sequence[Wish]) -> list[TaskSpec]:
    specs: list[TaskSpec] = []
    faults: list[Fault] = []
    for number, wish in enumerate(wishes):
        try:
            specs.append(parse_spec(wish.spec, default_name=wish.default_name))
        except SpecError as error:
            faults += _placed(error.faults, number)
    _refuse(faults)
    return specs


def _checked(owner: User, specs: Sequence[TaskSpec], now: datetime) -> list[Wanted]:
    """What follows from each spec; what several have in common is found out once."""
    references = {file.reference or "" for spec in specs for file in spec.files.values()}
    missing = frozenset(access.missing_blobs(owner, references, now))
    caps = standing.caps(owner.pk, now)
    needed: dict[tuple[object, ...], tuple[Limits, Demand]] = {}
    refused: dict[tuple[object, ...], list[Fault]] = {}
    wanted: list[Wanted] = []
    faults: list[Fault] = []
    for number, (asked, spec) in enumerate((one, intake.as_meant(owner, one, now)) for one in specs):
        needs = _needs(spec)
        if needs not in needed:
            limits = policy.effective_limits(spec, conf(), caps)
            needed[needs] = (limits, policy.demand_of(owner.pk, spec, limits))
        limits, demand = needed[needs]
        looks = (demand.key, spec.image, spec.secrets, spec.after, spec.callback_url)
        if looks not in refused:
            refused[looks] = intake.refusals(owner, spec, demand, now)
        faults += _placed([*intake.missing_files(spec, missing), *refused[looks]], number)
        wanted.append(Wanted(spec, spec_hash(asked), limits, demand))
    _refuse(faults)
    return wanted


def _needs(spec: TaskSpec) -> tuple[object, ...]:
    """All that a demand is made of, apart from the owner."""
    resources = tuple(sorted(spec.resources.items()))
    words = (spec.requires, spec.best_effort, spec.runtime, spec.singleton)
    return (spec.limits, spec.priority, spec.exclusive, resources, *words)


def _known(owner: User, keys: Sequence[str], wanted: Sequence[Wanted]) -> list[Task]:
    """The tasks that the keys stand for already, in their order; none when they are new."""
    if not keys or not keys[0]:
        return []
    tasks = Task.objects.filter(owner=owner).exclude(idempotency_key="")
    if not tasks.filter(idempotency_key=keys[0]).exists():
        return []
    one_more = f"{keys[0].removesuffix('/0')}/{len(keys)}"
    same = tasks.filter(idempotency_key__in=[*keys, one_more]).select_related("owner", "attempt")
    found = {task.idempotency_key: task for task in same}
    if set(found) != set(keys):
        raise Conflict("the idempotency key was used for another number of tasks; take a new one")
    for key, one in zip(keys, wanted, strict=True):
        intake.refuse_other(found[key], key, one.digest)
    return [found[key] for key in keys]


def _write(owner: User, wanted: Sequence[Wanted], keys: Sequence[str], now: datetime) -> list[Task]:
    tasks = [intake.made_of(owner, one, key, now) for one, key in zip(wanted, keys, strict=True)]
    free = [task for task, one in zip(tasks, wanted, strict=True) if not one.spec.after]
    demands = {one.demand.key: policy.demand_data(one.demand) for one in wanted if not one.spec.after}
    records.create_all(free, demands, now)
    for task, one in zip(tasks, wanted, strict=True):
        if one.spec.after:
            records.create(task, policy.demand_data(one.demand), one.spec.after, now)
    files: list[InputFile] = []
    for task, one in zip(tasks, wanted, strict=True):
        if one.spec.files:
            files += intake.inputs_of(task, one.spec)
    insert(files)
    return tasks


def _placed(faults: Iterable[Fault], number: int) -> list[Fault]:
    """The faults with the number of their task in their path."""
    return [Fault(f"tasks[{number}].{one.path}".rstrip("."), one.message, one.hint) for one in faults]


def _refuse(faults: list[Fault]) -> None:
    if not faults:
        return
    more = [Fault("tasks", f"{len(faults) - MOST_FAULTS} more faults")] if len(faults) > MOST_FAULTS else []
    raise SpecError([*faults[:MOST_FAULTS], *more])
