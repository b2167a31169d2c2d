"""Orders that the broker has had for long: its line to their node may be dead without either of them knowing."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from django.db.models import QuerySet

from grid.core.conf import conf
from grid.core.models import Attempt, Node
from tasks.order import WaitingOrder
from tasks.states import AttemptState

REMEMBER_SECONDS = 1.0

_lock = threading.Lock()
_none_at: datetime | None = None


def of(node: Node, now: datetime) -> tuple[WaitingOrder, ...]:
    """The orders that ``node`` should have read by now."""
    if not _anywhere(now):
        return ()
    told = _unread(now).filter(node=node).values_list("id", "nonce")
    return tuple(WaitingOrder(attempt=attempt, nonce=nonce) for attempt, nonce in told)


def _anywhere(now: datetime) -> bool:
    """Nearly always there is none on any node: a thousand heartbeats need not ask that, each of them anew."""
    global _none_at
    with _lock:
        if _none_at is not None and abs((now - _none_at).total_seconds()) < REMEMBER_SECONDS:
            return False
    found = _unread(now).exists()
    with _lock:
        _none_at = None if found else now
    return found


def forget() -> None:
    """Look again at the next question."""
    global _none_at
    with _lock:
        _none_at = None


def _unread(now: datetime) -> QuerySet[Attempt]:
    long_ago = now - timedelta(seconds=conf().resend_seconds)
    return Attempt.objects.filter(state=AttemptState.ASSIGNED, assigned_at__lte=long_ago, sent_at__isnull=False)
