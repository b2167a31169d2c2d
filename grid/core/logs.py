"""The captured output of attempts while they run: files that only grow, addressed by offsets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from grid.core.conf import conf
from grid.core.models import Attempt
from tasks.errors import Conflict, NotFound
from tasks.states import AttemptState

STREAMS = ("stdout", "stderr")
SEARCH_BYTES = 32 * 1024**2
_SEARCH_BLOCK = 1024**2
_READ_BLOCK = 256 * 1024


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


@dataclass(frozen=True, slots=True)
class Sought:
    """What a search found: the offset of the next match, or None and how far it looked; ``over`` at the log's end."""

    offset: int | None
    looked_to: int
    over: bool


def find(attempt_id: str, stream: str, needle: bytes, at: int, *, backward: bool = False) -> Sought:
    """The next place of ``needle`` from ``at`` on (or the last before it), whatever the case of ASCII letters.

    A search looks through ``SEARCH_BYTES`` and no more; it can go on from ``looked_to``.
    """
    needle, overlap = needle.lower(), max(0, len(needle) - 1)
    try:
        with _path(attempt_id, stream).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            low, high = (max(0, at - SEARCH_BYTES), min(at, size)) if backward else (at, min(size, at + SEARCH_BYTES))
            starts = range(low, high, _SEARCH_BLOCK)
            for start in reversed(starts) if backward else starts:
                end = min(start + _SEARCH_BLOCK, high)
                file.seek(start)
                block = file.read(end - start + overlap).lower()
                found = block.rfind(needle) if backward else block.find(needle)
                if found >= 0:
                    return Sought(start + found, start + found, over=False)
            return Sought(None, low if backward else high, low == 0 if backward else high >= size)
    except FileNotFoundError:
        return Sought(None, at, over=True)


def whole(attempt_id: str, stream: str) -> Iterator[bytes]:
    """All of a stream as it is now, in blocks."""
    with suppress(FileNotFoundError), _path(attempt_id, stream).open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        while left > 0 and (block := file.read(min(left, _READ_BLOCK))):
            left -= len(block)
            yield block


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
