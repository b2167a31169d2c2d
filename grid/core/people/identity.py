"""Accounts of people whom an external log-in vouches for: found by its lasting name for them, made at the first time.

An account that is here already is never taken over because somebody outside has its name or its e-mail address, unless
the operator allows that for the log-in: both can be chosen by people, or handed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.contrib.auth.models import Group, User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from grid.core.models import Identity
from grid.core.people import access
from tasks.errors import NotAllowed


@dataclass(frozen=True, slots=True)
class Outsider:
    """Who logs in, as told from outside; ``subject`` is what ``issuer`` will always call them."""

    issuer: str
    subject: str
    name: str
    email: str = ""
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Admission:
    """What an operator decided for an external log-in.

    ``groups`` maps its groups to groups here, ``staff`` is its group of operators (empty: it makes nobody one),
    ``adopt`` lets it open accounts of the same name that are here already, other than those of operators.
    """

    groups: Mapping[str, str]
    staff: str = ""
    adopt: bool = False


def account_of(who: Outsider, admission: Admission) -> User:
    """The account of somebody who was vouched for, with the groups that they have now; raises NotAllowed."""
    try:
        with transaction.atomic():
            link = Identity.objects.select_related("user").filter(issuer=who.issuer, subject=who.subject).first()
            user = link.user if link is not None else _linked(who, admission)
            _bring_up_to_date(user, who, admission)
    except IntegrityError:
        raise NotAllowed("this account was made at the same moment; log in again") from None
    access.forget()
    return user


def may_open(name: str, issuer: str, admission: Admission) -> bool:
    """Whether an external log-in could open what is called ``name`` here: nothing yet, or an account that it may have.

    A log-in that is given passwords is not to see those of other accounts.
    """
    users = list(User.objects.filter(username__iexact=name))
    theirs = Identity.objects.filter(user__in=users, issuer=issuer).exists()
    return not users or theirs or any(_adoptable(user, admission) for user in users)


def _adoptable(user: User, admission: Admission) -> bool:
    return admission.adopt and not user.is_staff and not Identity.objects.filter(user=user).exists()


def _linked(who: Outsider, admission: Admission) -> User:
    """The account that belongs to them from now on."""
    try:
        UnicodeUsernameValidator()(who.name)
    except ValidationError:
        raise NotAllowed(f'"{who.name}" cannot be the name of an account here; ask the operator') from None
    if not who.subject or len(who.name) > 150 or max(len(who.subject), len(who.issuer)) > 255:
        raise NotAllowed("the external log-in told no name that can be kept here; ask the operator")
    user = User.objects.filter(username__iexact=who.name).first()
    if user is None:
        user = User(username=who.name, email=who.email)
        user.set_unusable_password()
        user.save()
    elif not _adoptable(user, admission):
        raise NotAllowed(f'there is another account "{who.name}" here; ask the operator')
    Identity.objects.create(user=user, issuer=who.issuer, subject=who.subject)
    return user


def _bring_up_to_date(user: User, who: Outsider, admission: Admission) -> None:
    """Take over what is decided outside: e-mail address, rights of operators, groups that are mapped."""
    staff = admission.staff in who.groups if admission.staff else user.is_staff
    if (user.email, user.is_staff) != (who.email or user.email, staff):
        user.email = who.email or user.email
        user.is_staff = user.is_superuser = staff
        user.save(update_fields=["email", "is_staff", "is_superuser"])
    have = set(user.groups.filter(name__in=admission.groups.values()).values_list("name", flat=True))
    want = {inner for outer, inner in admission.groups.items() if outer in who.groups}
    if want - have:
        user.groups.add(*_groups(want - have))
    if have - want:
        user.groups.remove(*_groups(have - want))


def _groups(names: Iterable[str]) -> list[Group]:
    """The groups of these names; the operator's settings name them, so they are made where they are missing."""
    return [Group.objects.get_or_create(name=name)[0] for name in sorted(names)]
