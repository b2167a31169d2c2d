"""Leases on roles, with fences: of several dispatchers one acts, the others stand by."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import F, Q

from grid.core.models import Lock
from tasks.errors import Stale

# How far the clocks of servers on one database may be apart.
MOST_SKEW_SECONDS = 600.0


def acquire(name: str, holder: str, address: str, *, now: datetime, seconds: float) -> int | None:
    """Take or renew the lease ``name``; return its fence number, or None while somebody else holds it."""
    until = now + timedelta(seconds=seconds)
    # Nobody's clock is that far ahead: such a lease is from before this one was set back.
    beyond = until + timedelta(seconds=MOST_SKEW_SECONDS)
    if Lock.objects.filter(name=name, holder=holder, until__gt=now).update(until=until, address=address):
        return Lock.objects.values_list("fence", flat=True).get(name=name)
    Lock.objects.get_or_create(name=name)
    taken = Lock.objects.filter(
        Q(name=name) & (Q(until__isnull=True) | Q(until__lte=now) | Q(until__gt=beyond))
    ).update(holder=holder, fence=F("fence") + 1, until=until, address=address)
    return Lock.objects.values_list("fence", flat=True).get(name=name) if taken else None


def release(name: str, holder: str) -> None:
    """Give the lease back so that a standby can take over at once."""
    Lock.objects.filter(name=name, holder=holder).update(until=None)


def check(name: str, holder: str, fence: int) -> None:
    """Make sure, within the caller's transaction, that the lease is still ours; raises Stale when it is not.

    The UPDATE takes the row's lock, so that no other holder can appear before the caller has committed.
    """
    if not Lock.objects.filter(name=name, holder=holder, fence=fence).update(fence=fence):
        raise Stale(f"another process holds the role {name}")
