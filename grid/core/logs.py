"""The captured output of attempts while they run: files that only grow, addressed by offsets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from grid.core.conf import conf
from grid.core.models import Attempt
from tasks.errors import Conflict, NotFound
from tasks.states import AttemptState

STREAMS = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class LogPart:
    """A piece of a stream: the bytes from the offset asked for, the size known now, and whether more may come."""

    data: bytes
    size: int
    complete: bool


def append(attempt_id: str, stream: str, offset: int, data: bytes) -> int:
    """Write the bytes that begin at ``offset``; what is already there is skipped. Return the new size.

    Raises Conflict when ``offset`` lies beyond the end: the sender has to go on from the size that the error names.
    """
    path = _path(attempt_id, stream)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        size = os.fstat(handle).st_size
        if offset > size:
            raise Conflict(f"the log has {size} bytes, it cannot go on at {offset}")
        # Written in place and not at the end: a repeated or overlapping piece leaves the same bytes.
        new = data[size - offset :]
        os.pwrite(handle, new, size)
        return size + len(new)
    finally:
        os.close(handle)


def read(attempt: Attempt, stream: str, offset: int, limit: int) -> LogPart:
    """At most ``limit`` bytes from ``offset``; an offset beyond the end gives none."""
    complete = attempt.state == AttemptState.ENDED
    try:
        with _path(attempt.id, stream).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(min(offset, size))
            return LogPart(file.read(limit), size, complete)
    except FileNotFoundError:
        return LogPart(b"", 0, complete)


def missing(since: datetime, most: int) -> tuple[int, int]:
    """Of the last ``most`` attempts: how many ended ``since`` and said something, and of these how many have no log."""
    last = Attempt.objects.order_by("-id").values_list("id", "ended_at", "report")[:most]
    said = [
        attempt_id
        for attempt_id, ended_at, report in last
        if ended_at and ended_at >= since and (report or {}).get("evidence", {}).get("output_bytes")
    ]
    return len(said), sum(not any(_path(one, stream).exists() for stream in STREAMS) for one in said)


def remove(attempt_id: str) -> bool:
    """Delete the logs of an attempt; whether there were any."""
    there = False
    for stream in STREAMS:
        try:
            _path(attempt_id, stream).unlink()
        except FileNotFoundError:
            continue
        there = True
    return there


def _path(attempt_id: str, stream: str) -> Path:
    if stream not in STREAMS:
        raise NotFound(f'there is no stream "{stream}"; ask for stdout or stderr')
    # The last digits of an id are random, the first are its time.
    return conf().dir / "logs" / attempt_id[-2:] / f"{attempt_id}.{stream}"
