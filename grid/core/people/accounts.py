"""People and groups as they are told, and the operators' changes of them: for the pages and the API alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Count

from grid.core.conf import GridSettings
from grid.core.people import access, members, quotas, standing
from grid.core.people.groups import CLIENTS
from grid.core.people.standing import Bound
from tasks.accounts import (
    AccountView,
    GroupDetail,
    GroupView,
    NewPerson,
    NewPersonBody,
    PeoplePage,
    PersonChange,
    PersonDetail,
    PersonView,
    QuotaUse,
    ServerRules,
)
from tasks.errors import NotFound
from tasks.terms import Rules

PAGE = 100
MOST_NAMES = 100


def own(user: User, now: datetime) -> AccountView:
    """The account of who asks."""
    return AccountView(
        name=user.username,
        email=user.email,
        staff=user.is_staff,
        groups=tuple(user.groups.order_by("name").values_list("name", flat=True)),
        share=standing.rules_of(user).share,
        used=used(standing.bounds(user.pk, now), now),
    )


def share(user: User, now: datetime, *, wish: bool) -> None:
    """Let one's groups see one's tasks, or not any more."""
    rules = standing.rules_of(user).model_copy(update={"share": wish})
    standing.decide(user, rules, by=user.username, now=now)
    access.forget()


def used(bounds: Iterable[Bound], now: datetime) -> tuple[QuotaUse, ...]:
    """What is used of quotas."""
    found = ((bound, quotas.usage(bound, now)) for bound in bounds)
    return tuple(
        QuotaUse(
            whose=bound.whose,
            quota=bound.quota,
            running=usage.running,
            queued=usage.queued,
            cpu_hours=usage.cpu_hours,
            storage=usage.storage,
        )
        for bound, usage in found
    )


def bounds_of(of: User | Group, now: datetime) -> tuple[Bound, ...]:
    """The quotas of a user or group to be looked at; where none holds one without bounds, to see the use."""
    if isinstance(of, User):
        nothing = Bound(f"user {of.username}", frozenset({of.pk}), Rules().quota)
        return standing.bounds(of.pk, now) or (nothing,)
    members = frozenset(of.user_set.values_list("pk", flat=True))
    return (Bound(f"group {of.name}", members, standing.rules_of(of).quota),)


def page(after: str, limit: int, now: datetime) -> PeoplePage:
    """Users by name, from behind ``after``."""
    rows = list(User.objects.filter(username__gt=after).order_by("username").prefetch_related("groups")[: limit + 1])
    held, ruled = running(row.pk for row in rows), standing.book(now).users
    items = tuple(_person(row, held, ruled) for row in rows[:limit])
    return PeoplePage(items=items, next=items[-1].name if len(rows) > limit else "")


def person(name: str, now: datetime) -> PersonDetail:
    """One user; raises NotFound."""
    user = members.find(name)
    listed = _person(user, running([user.pk]), standing.book(now).users)
    rules = standing.rules_of(user)
    return PersonDetail(**dict(listed), rules=rules, used=used(bounds_of(user, now), now))


def add_person(body: NewPersonBody) -> NewPerson:
    """Make an account, a member of Clients unless groups are named; raises as ``members.add``, and NotFound."""
    password = members.new_password() if body.password is None else body.password
    members.add(body.name, password, email=body.email, groups=(CLIENTS,) if body.groups is None else body.groups)
    return NewPerson(name=body.name, password=password if body.password is None else None)


def change_person(name: str, change: PersonChange, *, by: str, now: datetime) -> None:
    """Change a user's groups, close or open the account, decide for it: all or nothing. Raises NotFound."""
    user = members.find(name)
    with transaction.atomic():
        if change.groups is not None:
            members.set_groups(user, change.groups)
        if change.active is not None and change.active != user.is_active:
            members.set_active(user, active=change.active)
        if change.rules is not None:
            standing.decide(user, change.rules, by=by, now=now)
    access.forget()


def groups(now: datetime) -> tuple[GroupView, ...]:
    """All groups by name."""
    ruled = {club.pk for club in standing.book(now).clubs}
    rows = Group.objects.annotate(members=Count("user")).order_by("name").values_list("pk", "name", "members")
    return tuple(GroupView(name=name, members=members, ruled=pk in ruled) for pk, name, members in rows)


def group_named(name: str) -> Group:
    """The group of this name; raises NotFound."""
    found = Group.objects.filter(name=name).first()
    if found is None:
        raise NotFound(f'there is no group "{name}"')
    return found


def group(name: str, now: datetime) -> GroupDetail:
    """One group; raises NotFound."""
    found = group_named(name)
    (bound,) = bounds_of(found, now)
    names = found.user_set.order_by("username").values_list("username", flat=True)
    return GroupDetail(
        name=found.name,
        members=len(bound.owners),
        ruled=any(club.pk == found.pk for club in standing.book(now).clubs),
        names=tuple(names[:MOST_NAMES]),
        rules=standing.rules_of(found),
        used=used((bound,), now),
    )


def decide_for_group(name: str, rules: Rules, *, by: str, now: datetime) -> None:
    """Decide for the members of a group; raises NotFound."""
    standing.decide(group_named(name), rules, by=by, now=now)
    access.forget()


def server_rules(settings: GridSettings) -> ServerRules:
    """What holds for everybody, by the server's settings."""
    return ServerRules(
        quota=settings.user_quota,
        default_limits=settings.default_limits,
        max_limits=settings.max_limits,
        allow_network=settings.allow_network,
        images=settings.images,
        image_names=settings.image_names,
        profiles=settings.profiles,
        retention=settings.retention,
        unused_days=settings.retention_unused_days,
        open_submit=settings.open_submit,
    )


def running(owners: Iterable[int]) -> dict[int, int]:
    """How many attempts of each of these users are on nodes."""
    # Counted here: to group them a database would go through all tasks in the order of their owners.
    return Counter(quotas.held_by(list(owners)).values_list("task__owner_id", flat=True))


def _person(user: User, held: dict[int, int], ruled: Collection[int]) -> PersonView:
    return PersonView(
        name=user.username,
        email=user.email,
        staff=user.is_staff,
        active=user.is_active,
        groups=tuple(sorted(group.name for group in user.groups.all())),
        running=held.get(user.pk, 0),
        ruled=user.pk in ruled,
    )
