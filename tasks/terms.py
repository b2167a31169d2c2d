"""What people may use and how long it is kept: quotas, image names, retention. Values and rules, no records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from tasks.errors import Fault
from tasks.fields import one_of
from tasks.limits import Bytes, Count, Limits
from tasks.model import Record
from tasks.profiles import PROFILES
from tasks.units import format_size
from tasks.verdicts import VerdictClass

KEPT = ("files", "inputs", "logs", "tasks")
"""What is kept of an ended task for times of their own: output files, input files, logs, and the record as a whole."""

EVERY = "*"
_CLASSES = frozenset({EVERY, *(one.value for one in VerdictClass)})

Days = Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)]
DaysByClass = dict[str, Days]
"""Days after the end by verdict class; ``*`` is for the classes not named. Without an entry it is kept for ever."""


class Quota(Record):
    """How much may be used at a time; null is without bound. ``cpu_hours`` are counted over the last ``days``.

    A cpu-hour is one processor that was reserved for an hour, used or not.
    """

    running: Count | None = None
    queued: Count | None = None
    cpu_hours: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    days: Annotated[float, Field(gt=0, le=366)] = 7.0
    storage: Bytes | None = None


class Retention(Record):
    """How many days parts of a task are kept after its end, by verdict class."""

    files: DaysByClass = {}
    inputs: DaysByClass = {}
    logs: DaysByClass = {}
    tasks: DaysByClass = {}

    @field_validator(*KEPT)
    @classmethod
    def _known_classes(cls, value: DaysByClass) -> DaysByClass:
        if unknown := sorted(set(value) - _CLASSES):
            raise ValueError(f'"{unknown[0]}" is no verdict class; write one of {", ".join(sorted(_CLASSES))}')
        return value

    def days(self, kind: str, verdict_class: str) -> float | None:
        """Days for which a part is kept; None says nothing."""
        by_class: DaysByClass = getattr(self, kind)
        return by_class.get(verdict_class, by_class.get(EVERY))


class Rules(Record):
    """What is decided for one user, or for the members of one group. Each part that is left out decides nothing.

    The quota of a group is for all its members together. ``images`` are patterns of which one must fit, ``image_names``
    are put in place of what a task says. ``profiles`` are the container profiles that may be asked for beside
    ``standard``. ``share`` lets the other members (of the user's groups) see the tasks.
    """

    quota: Quota = Quota()
    limits: Limits = Limits()
    images: tuple[str, ...] = ()
    image_names: dict[str, str] = {}
    profiles: tuple[Annotated[str, AfterValidator(one_of(PROFILES, "a container profile"))], ...] = ()
    retention: Retention = Retention()
    share: bool = False


def limits_of(user: Limits, groups: Iterable[Limits]) -> Limits:
    """The caps of a user: what is decided for them goes before the strictest of what their groups say."""
    said_by = tuple(groups)
    caps: dict[str, object] = {}
    for name in Limits.model_fields:
        own = getattr(user, name)
        said = [value for one in said_by if (value := getattr(one, name)) is not None]
        if own is not None or said:
            caps[name] = own if own is not None else min(said)
    return Limits.model_validate(caps)


def kept_days(kind: str, verdict_class: str, user: Retention, groups: Sequence[Retention], server: Retention) -> float:
    """Days for which a part of an ended task is kept, infinity for ever.

    The user's own rule goes before those of groups, of which the longest counts, and these before the server's.
    """
    own = user.days(kind, verdict_class)
    if own is not None:
        return own
    said = [days for one in groups if (days := one.days(kind, verdict_class)) is not None]
    if said:
        return max(said)
    found = server.days(kind, verdict_class)
    return float("inf") if found is None else found


def mapped_image(image: str, names: Mapping[str, str]) -> str:
    """The image that is meant by a name: of the patterns that fit the most exact one counts; ``*`` keeps what it took.

    ``{"old/*": "registry.example.org/*"}`` makes ``registry.example.org/judge:2`` of ``old/judge:2``. A name without
    ``*`` is more exact than any pattern, a longer pattern than a shorter one: databases keep no order of keys.
    """
    for pattern, replacement in sorted(names.items(), key=lambda pair: ("*" in pair[0], -len(pair[0]), pair[0])):
        before, star, behind = pattern.partition("*")
        found = re.fullmatch(re.escape(before) + ("(.*)" if star else "") + re.escape(behind), image)
        if found:
            return replacement.replace("*", found[1] if star else "*", 1)
    return image


def image_allowed(image: str, lists: Iterable[Sequence[str]]) -> bool:
    """Whether each of the lists of patterns has one that fits; a name without a tag is that with ``:latest`` too."""
    names = {image} if ":" in image.rpartition("/")[2] or "@" in image else {image, f"{image}:latest"}
    return all(any(fnmatchcase(name, pattern) for name in names for pattern in patterns) for patterns in lists)


def queue_fault(whose: str, quota: Quota, queued: int, more: int) -> Fault | None:
    """Why ``more`` tasks do not go into the queue beside those that wait."""
    if quota.queued is None or queued + more <= quota.queued:
        return None
    asked = "" if more == 1 else f", {more} more were sent"
    words = f"the quota of {whose} is {quota.queued} queued tasks, and {queued} are waiting{asked}"
    return Fault("", words, "wait until some have started, cancel some, or ask the operator for more")


def storage_fault(whose: str, quota: Quota, used: int, more: int = 0) -> Fault | None:
    """Why no more is stored: ``more`` bytes do not fit, or what is there is too much already."""
    if quota.storage is None or (used + more <= quota.storage and (more or used < quota.storage or not used)):
        return None
    asked = f", {format_size(more)} more were sent" if more else ""
    words = f"the quota of {whose} is {format_size(quota.storage)} of files, and {format_size(used)} are stored{asked}"
    return Fault("", words, "delete tasks that are not needed any more, or ask the operator for more")


def running_reason(whose: str, quota: Quota, running: int) -> str:
    """Why nothing more of these people starts while so much of theirs runs; empty when it may."""
    if quota.running is None or running < quota.running:
        return ""
    return f"the quota of {whose} is {quota.running} running, and {running} are: it starts when one of them ends"


def cpu_reason(whose: str, quota: Quota, used_hours: float) -> str:
    """Why nothing more of these people starts after so many cpu-hours; empty when it may."""
    if quota.cpu_hours is None or used_hours < quota.cpu_hours:
        return ""
    words = f"{used_hours:.2f} of {quota.cpu_hours:g} cpu-hours in {quota.days:g} days are used"
    return f"the quota of {whose}: {words}; it starts when the oldest of them are that long ago"
