"""The operator's verbs on people: make accounts, set passwords, put into groups."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from grid.core.people import access, audit, tokens
from tasks.errors import Conflict, Fault, NotFound, SpecError


def find(name: str) -> User:
    """The user of this name; raises NotFound."""
    user = User.objects.filter(username=name).first()
    if user is None:
        raise NotFound(f'there is no user "{name}"')
    return user


def add(name: str, password: str, *, email: str = "", groups: Iterable[str] = (), staff: bool = False) -> User:
    """Make an account. Raises SpecError for a name or password that will not do, Conflict when the name is taken."""
    wanted = groups_named(groups)
    try:
        UnicodeUsernameValidator()(name)
    except ValidationError as error:
        raise SpecError([Fault("username", " ".join(error.messages))]) from None
    user = User(username=name, email=email, is_staff=staff, is_superuser=staff)
    _set(user, password)
    try:
        with transaction.atomic():
            user.save()
            user.groups.set(wanted)
    except IntegrityError:
        raise Conflict(f'there is a user "{name}" already; set a new password with: manage.py passwd {name}') from None
    return user


def end_sessions(user: User, now: datetime) -> int:
    """End all log-ins of a user in browsers, and say how many there were; tokens stay.

    A session tells whose it is only when it is opened: all that are valid are looked through, which takes a second for
    some ten thousand of them.
    """
    ended = 0
    for one in Session.objects.filter(expire_date__gt=now).iterator():
        if one.get_decoded().get(SESSION_KEY) == str(user.pk):
            ended += Session.objects.filter(pk=one.pk).delete()[0]
    audit.note("sessions_ended", f"user {user.username}", now, ended=ended)
    return ended


def set_password(name: str, password: str) -> None:
    """Give a user another password; sessions of theirs end. Raises NotFound, SpecError."""
    user = find(name)
    _set(user, password)
    user.save(update_fields=["password"])


def set_groups(user: User, groups: Iterable[str]) -> None:
    """Make the user a member of just these groups; raises NotFound."""
    user.groups.set(groups_named(groups))
    access.forget()


def set_active(user: User, *, active: bool) -> None:
    """Close an account, or open it again: tokens and sessions of a closed one open nothing."""
    User.objects.filter(pk=user.pk).update(is_active=active)
    tokens.forget()


def groups_named(names: Iterable[str]) -> list[Group]:
    """The groups of these names; raises NotFound for the first that is not there."""
    wanted = sorted(set(names))
    found = {group.name: group for group in Group.objects.filter(name__in=wanted)}
    for name in wanted:
        if name not in found:
            raise NotFound(f'there is no group "{name}"')
    return [found[name] for name in wanted]


def new_password() -> str:
    """A password that nobody guesses."""
    return secrets.token_urlsafe(12)


def _set(user: User, password: str) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise SpecError([Fault("password", " ".join(error.messages), "choose a longer one")]) from None
    user.set_password(password)
