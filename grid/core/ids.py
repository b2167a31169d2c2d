"""Identifiers of tasks and attempts: version 7 UUIDs as 32 hexadecimal digits; later ones sort after earlier ones."""

from __future__ import annotations

import secrets
import threading
import time

_lock = threading.Lock()
_last = (0, 0)


def new_id() -> str:
    """A new id (RFC 9562, version 7); within one process ids are strictly increasing.

    The 12 bits after the milliseconds count up within one millisecond, so that a burst of submits keeps its order.
    """
    global _last
    with _lock:
        milliseconds = time.time_ns() // 1_000_000
        last_milliseconds, count = _last
        if milliseconds <= last_milliseconds:
            milliseconds, count = last_milliseconds, count + 1
            if count > 0xFFF:
                milliseconds, count = milliseconds + 1, 0
        else:
            count = 0
        _last = (milliseconds, count)
    random = (0b10 << 62) | secrets.randbits(62)
    return f"{milliseconds:012x}7{count:03x}{random:016x}"


def order_of(task_id: str) -> int:
    """A number that grows with the time at which an id was made; used to keep tasks in order."""
    return int(task_id[:16], 16)
