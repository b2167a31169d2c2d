"""Counters that the kernel keeps in the leaf only, so that they vanish with the container."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from observer.cgroups.files import Files, below
from observer.cgroups.membership import PREFIX

_LONGEST_RECORD = 8192
_NEARLY = 0.95


@dataclass(slots=True)
class _Leaf:
    files: Files
    seen: int = 0
    limit: int | None = None


class LeafCounter:
    """The line ``key`` of the file ``name`` in all groups below ``folder``: the most that was ever seen of it.

    What happens between the last reading and the end of a leaf is missed by that. The kernel's log has it too
    (``phrase`` and the leaf's name in one line, written once per leaf or at a limited rate), so it is searched when a
    leaf ended at its limit: then 1 is the least that can be said. It fails where the log is full or may not be read.

    A session of the observer counts only while it was not at a limit of its own: what a judge forbids the program that
    it judges is no fault of the task. ``peak`` is the file that tells the most that was in use in a group.
    """

    def __init__(self, folder: Path, *, name: str, key: str, limit: str, peak: str, phrase: str) -> None:
        self._folder = str(folder)
        self._name, self._key, self._limit, self._peak, self._phrase = name, key, limit, peak, phrase
        self._living: dict[str, _Leaf] = {}
        self._links: list[int] = []
        self._ended = 0

    def read(self, peak: int | None) -> int:
        """The sum over all leaves that are and were; ``peak`` is the most that was in use of what the limit limits."""
        if self._links != (links := self._count_links()) or not links:
            found = set(below(self._folder))
            for gone in [path for path in self._living if path not in found]:
                self._end(gone, self._living.pop(gone), peak)
            self._living |= {path: _Leaf(Files(Path(path))) for path in found if path not in self._living}
            self._links = self._count_links()
        for path, leaf in self._living.items():
            if f"/{PREFIX}" in path and self._at_own_limit(leaf.files):
                continue
            leaf.seen = max(leaf.seen, leaf.files.value(self._name, self._key) or 0)
            leaf.limit = leaf.files.number(self._limit) or leaf.limit
        return self._ended + sum(leaf.seen for leaf in self._living.values())

    def close(self) -> None:
        """Let go of open files."""
        for leaf in self._living.values():
            leaf.files.close()

    def _at_own_limit(self, files: Files) -> bool:
        limit, most = files.number(self._limit), files.number(self._peak)
        return limit is not None and most is not None and most >= limit * _NEARLY

    def _count_links(self) -> list[int]:
        """How many folders each known one holds: while that is the same, no leaf came or went. Empty when one went."""
        try:
            return [os.stat(path).st_nlink for path in (self._folder, *self._living)]
        except OSError:
            return []

    def _end(self, path: str, leaf: _Leaf, peak: int | None) -> None:
        leaf.files.close()
        at_limit = peak is not None and leaf.limit is not None and peak >= leaf.limit
        if not leaf.seen and at_limit and logged(self._phrase, os.path.basename(path)):
            leaf.seen = 1
        self._ended += leaf.seen


def logged(phrase: str, word: str) -> bool:
    """True when a line of the kernel's log holds both ``phrase`` and ``word``; 1 ms for 600 lines."""
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        while True:
            try:
                record = os.read(log, _LONGEST_RECORD)
            except BrokenPipeError:  # the oldest lines were overwritten meanwhile: go on with the next
                continue
            if phrase.encode() in record and word.encode() in record:
                return True
    except OSError:  # BlockingIOError: the end of the log
        return False
    finally:
        os.close(log)
