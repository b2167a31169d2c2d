"""What was decided for users and groups: read as a whole once in a while, for it is little and seldom changes."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.contrib.auth.models import Group, User

from grid.core.conf import GridSettings, conf
from grid.core.models import Policy
from grid.core.people import audit
from tasks.limits import Limits
from tasks.profiles import EVERYBODYS
from tasks.terms import Quota, Rules, image_allowed, kept_days, limits_of, mapped_image

REMEMBER_SECONDS = 2.0

_lock = threading.Lock()
_known: tuple[datetime, Book] | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """A quota, and the users whose use is counted against it together; ``whose`` names them in sentences."""

    whose: str
    owners: frozenset[int]
    quota: Quota


@dataclass(frozen=True, slots=True)
class Club:
    """A group for which something is decided: its rules and its members."""

    pk: int
    name: str
    rules: Rules
    members: frozenset[int]


@dataclass(frozen=True)
class Book:
    """All that was decided. ``names`` are those of the users for whom something is, by number."""

    users: Mapping[int, Rules]
    clubs: tuple[Club, ...]
    names: Mapping[int, str]

    @cached_property
    def clubs_of(self) -> Mapping[int, tuple[Club, ...]]:
        """The groups with rules that a user is in."""
        found: dict[int, tuple[Club, ...]] = defaultdict(tuple)
        for club in self.clubs:
            for member in club.members:
                found[member] += (club,)
        return found


def book(now: datetime) -> Book:
    """What was decided, as of at most two seconds ago."""
    global _known
    with _lock:
        if _known is not None and abs((now - _known[0]).total_seconds()) < REMEMBER_SECONDS:
            return _known[1]
    read = _read()
    with _lock:
        _known = (now, read)
    return read


def forget() -> None:
    """Read everything anew; who changes a policy or a membership calls it."""
    global _known
    with _lock:
        _known = None


def _read() -> Book:
    users: dict[int, Rules] = {}
    groups: dict[int, tuple[str, Rules]] = {}
    names: dict[int, str] = {}
    of_users = Policy.objects.exclude(user=None)
    for user_id, username, rules in of_users.values_list("user__id", "user__username", "rules"):
        users[user_id], names[user_id] = Rules.model_validate(rules), username
    of_groups = Policy.objects.exclude(group=None)
    for group_id, group, rules in of_groups.values_list("group__id", "group__name", "rules"):
        groups[group_id] = (group, Rules.model_validate(rules))
    members: dict[int, set[int]] = defaultdict(set)
    if groups:
        for group_id, user_id in User.groups.through.objects.filter(group_id__in=groups).values_list(
            "group_id", "user_id"
        ):
            members[group_id].add(user_id)
    clubs = (Club(pk, name, rules, frozenset(members[pk])) for pk, (name, rules) in sorted(groups.items()))
    return Book(users, tuple(clubs), names)


def bounds(owner_id: int, now: datetime) -> tuple[Bound, ...]:
    """The quotas that hold for a user: their own, or else the server's for everybody, and those of their groups."""
    known = book(now)
    rules = known.users.get(owner_id)
    if rules is not None and rules.quota != Quota():
        own = Bound(f"user {known.names[owner_id]}", frozenset({owner_id}), rules.quota)
    else:
        own = Bound("each user", frozenset({owner_id}), conf().user_quota)
    groups = (Bound(f"group {club.name}", club.members, club.rules.quota) for club in known.clubs_of.get(owner_id, ()))
    return tuple(one for one in (own, *groups) if one.quota != Quota())


def caps(owner_id: int, now: datetime) -> Limits:
    """The most that a task of this user gets, the server's own caps aside."""
    known = book(now)
    own = known.users.get(owner_id, Rules()).limits
    return limits_of(own, (club.rules.limits for club in known.clubs_of.get(owner_id, ())))


def image_for(owner_id: int, image: str, settings: GridSettings, now: datetime) -> str:
    """The image that the user's task gets for a name: by the user's own list of names, their groups', the server's."""
    known = book(now)
    for names in (
        known.users.get(owner_id, Rules()).image_names,
        *(club.rules.image_names for club in known.clubs_of.get(owner_id, ())),
        settings.image_names,
    ):
        if (meant := mapped_image(image, names)) != image:
            return meant
    return image


def may_use_image(owner_id: int, image: str, settings: GridSettings, now: datetime) -> bool:
    """Whether an image is among those allowed: by the server, and by the user's own list or else by a group's."""
    known = book(now)
    own = known.users.get(owner_id, Rules()).images
    of_groups = tuple(pattern for club in known.clubs_of.get(owner_id, ()) for pattern in club.rules.images)
    return image_allowed(image, [patterns for patterns in (settings.images, own or of_groups) if patterns])


def may_use_profile(owner_id: int, profile: str, settings: GridSettings, now: datetime) -> bool:
    """Whether a container profile is everybody's, or allowed by the server, to the user, or to a group of theirs."""
    known = book(now)
    allowed = {EVERYBODYS, *settings.profiles, *known.users.get(owner_id, Rules()).profiles}
    return profile in allowed.union(*(club.rules.profiles for club in known.clubs_of.get(owner_id, ())))


def days_kept(owner_id: int, kind: str, verdict_class: str, settings: GridSettings, now: datetime) -> float:
    """Days for which a part of an ended task of the user is kept; infinity for ever."""
    known = book(now)
    own = known.users.get(owner_id, Rules()).retention
    groups = [club.rules.retention for club in known.clubs_of.get(owner_id, ())]
    return kept_days(kind, verdict_class, own, groups, settings.retention)


def shared_owners(user_id: int, now: datetime) -> frozenset[int]:
    """The other users whose tasks this one may see: members of groups that share, and mates who do."""
    known = book(now)
    found: set[int] = set()
    for club in known.clubs_of.get(user_id, ()):
        if club.rules.share:
            found |= club.members
    sharing = [owner for owner, rules in known.users.items() if rules.share]
    if sharing:
        mine = Group.objects.filter(user=user_id)
        found |= set(User.objects.filter(pk__in=sharing, groups__in=mine).values_list("pk", flat=True))
    return frozenset(found - {user_id})


def decide(of: User | Group, rules: Rules, *, by: str, now: datetime) -> Policy:
    """Decide for a user or a group; what was decided before is replaced."""
    whom = {"user": of} if isinstance(of, User) else {"group": of}
    data = rules.model_dump(mode="json", exclude_defaults=True)
    row, _ = Policy.objects.update_or_create(
        **whom, defaults={"rules": data, "changed_at": now, "changed_by": by[:150]}
    )
    forget()
    audit.note(
        "policy_set", f"user {of.username}" if isinstance(of, User) else f"group {of.name}", now, by=by, rules=data
    )
    return row


def rules_of(of: User | Group) -> Rules:
    """What is decided for a user or a group; nothing, where no row says anything."""
    whom = {"user": of} if isinstance(of, User) else {"group": of}
    row = Policy.objects.filter(**whom).first()
    return Rules() if row is None else Rules.model_validate(row.rules)


def all_bounds(owners: Iterable[int], now: datetime) -> tuple[Bound, ...]:
    """The quotas that hold for any of these users, each once."""
    return tuple(dict.fromkeys(bound for owner in sorted(owners) for bound in bounds(owner, now)))
