"""A brake on guessing, shared by all processes of the server: failures are counted in the database.

A name is counted for its address, and by itself; an address for all names. Nobody learns from a pause whether an
account is there: names that nobody has are counted alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction

from grid.core.models import Failures
from grid.core.people import audit
from tasks.brakes import ACCOUNT, ADDRESS, FORGET_SECONDS, PAIR, TOKENS, Brake

_FORGET = timedelta(seconds=FORGET_SECONDS)


@dataclass(frozen=True, slots=True)
class _Counter:
    """Where failures are counted, and which brake they work."""

    key: str
    brake: Brake


def login_pause(name: str, address: str, now: datetime) -> datetime | None:
    """When this name may be tried again from this address; None: now."""
    return _until(_of_login(name, address), now)


def login_failed(name: str, address: str, now: datetime) -> datetime | None:
    """Count a wrong password; return until when there is a pause now, if there is one."""
    until = _count(_of_login(name, address), now)
    if until is not None:
        # What was typed as a name may be a password.
        known = User.objects.filter(username=name).exists()
        audit.note("login_paused", name if known else "(unknown name)", now, by="-", until=until.isoformat())
    return until


def login_succeeded(name: str, address: str) -> None:
    """Forget the failures of the name, those of its address from here included.

    Those of the address for all names stay: who has an account of their own must not be able to take them back.
    """
    pair, account, _ = _of_login(name, address)
    Failures.objects.filter(key__in=[pair.key, account.key]).delete()


def token_failed(address: str, now: datetime) -> datetime | None:
    """Count a token that opens nothing; return until when more of them are not looked at one by one.

    In a pause nothing is written, so that a flood costs one look. Good tokens are never stopped: their 192 bits cannot
    be guessed, and many clients may share the address with the one whose token was revoked.
    """
    counters = (_Counter(_key("token", address), TOKENS),)
    paused = _until(counters, now)
    if paused is not None:
        return paused
    until = _count(counters, now)
    if until is not None:
        audit.note("tokens_paused", "(unknown token)", now, by="-", until=until.isoformat())
    return until


def _of_login(name: str, address: str) -> tuple[_Counter, _Counter, _Counter]:
    folded = name.casefold()
    return (
        _Counter(_key("pair", address, folded), PAIR),
        _Counter(_key("account", folded), ACCOUNT),
        _Counter(_key("address", address), ADDRESS),
    )


def _key(kind: str, *words: str) -> str:
    return f"{kind}:{hashlib.sha256(chr(0).join(words).encode(errors='replace')).hexdigest()}"


def _until(counters: tuple[_Counter, ...], now: datetime) -> datetime | None:
    """The end of the longest pause that is on."""
    keys = [one.key for one in counters]
    ends = Failures.objects.filter(key__in=keys, until__gt=now).values_list("until", flat=True)
    return max((end for end in ends if end is not None), default=None)


def _count(counters: tuple[_Counter, ...], now: datetime) -> datetime | None:
    """Count one failure in each; return the end of the longest pause that it costs."""
    ends: list[datetime] = []
    with transaction.atomic():
        # In one order, so that two processes never wait for each other.
        for one in sorted(counters, key=lambda one: one.key):
            row, _ = Failures.objects.select_for_update().get_or_create(key=one.key, defaults={"last_at": now})
            row.number = row.number + 1 if now - row.last_at < _FORGET else 1
            pause = one.brake.pause_seconds(row.number)
            row.last_at, row.until = now, now + timedelta(seconds=pause) if pause else None
            row.save()
            if row.until is not None:
                ends.append(row.until)
        Failures.objects.filter(last_at__lt=now - _FORGET).delete()
    return max(ends, default=None)
