"""Counters that the kernel keeps in the leaf only, so that they vanish with the container."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from observer.cgroups.files import Files, below
from observer.cgroups.membership import PREFIX
from observer.cgroups.oom_notifier import OomNotifier

_LONGEST_RECORD = 8192
_NEARLY = 0.95
OOM_PHRASE = "oom-kill:constraint="


@dataclass(slots=True)
class _Leaf:
    files: Files
    notifier: OomNotifier | None = None
    seen: int = 0
    limit: int | None = None

    def close(self) -> None:
        self.files.close()
        if self.notifier is not None:
            self.notifier.close()
            self.notifier = None


class LeafCounter:
    """The line ``key`` of the file ``name`` in all groups below ``folder``: the most that was ever seen of it.

    What happens between the last reading and the end of a leaf is missed by that. The kernel's log has it too
    (``phrase`` and the leaf's name in one line), so it is searched when nothing was counted and a leaf ended at its
    limit: then 1 is the least that can be said. It fails where the log is full or may not be read.

    A session of the observer counts only while it was not at a limit of its own: what a judge forbids the program that
    it judges is no fault of the task. ``peak`` is the file that tells the most that was in use in a group.
    """

    _near = 1.0

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
            self._living |= {path: self._leaf(path) for path in found if path not in self._living}
            self._links = self._count_links()
        for path, leaf in self._living.items():
            if self._is_judged(path, leaf.files):
                continue
            leaf.seen = max(leaf.seen, leaf.files.value(self._name, self._key) or 0)
            leaf.limit = leaf.files.number(self._limit) or leaf.limit
        return self._sum()

    def close(self) -> None:
        """Let go of open files."""
        for leaf in self._living.values():
            leaf.close()

    def _leaf(self, path: str) -> _Leaf:
        return _Leaf(Files(Path(path)))

    def _sum(self) -> int:
        return self._ended + sum(leaf.seen for leaf in self._living.values())

    def _is_judged(self, path: str, files: Files) -> bool:
        """True for a session that was at a limit of its own: what it counts is the judge's affair."""
        if f"/{PREFIX}" not in path:
            return False
        limit, most = files.number(self._limit), files.number(self._peak)
        return limit is not None and most is not None and most >= limit * _NEARLY

    def _count_links(self) -> list[int]:
        """How many folders each known one holds: while that is the same, no leaf came or went. Empty when one went."""
        try:
            return [os.stat(path).st_nlink for path in (self._folder, *self._living)]
        except OSError:
            return []

    def _end(self, path: str, leaf: _Leaf, peak: int | None) -> None:
        at_limit = leaf.limit is not None and (peak is None or peak >= leaf.limit * self._near)
        unseen = not leaf.seen and not self._sum()
        if unseen and at_limit and f"/{PREFIX}" not in path and self._happened(path, leaf):
            leaf.seen = 1
        leaf.close()
        self._ended += leaf.seen

    def _happened(self, path: str, leaf: _Leaf) -> bool:
        """Whether it happened in a leaf that is gone."""
        return logged(self._phrase, os.path.basename(path))


class KillCounter(LeafCounter):
    """How many processes were killed for want of memory in the groups below ``folder`` (cgroup v1).

    The kernel itself tells of the end of a leaf that came between two readings. Its log, where it writes a few such
    lines a second at the most, is for leaves that were gone when this began.
    """

    # Memory is asked for in larger pieces than one page: a limit is met a little below it, too.
    _near = _NEARLY

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            name="memory.oom_control",
            key="oom_kill",
            limit="memory.limit_in_bytes",
            peak="memory.max_usage_in_bytes",
            phrase=OOM_PHRASE,
        )

    def _leaf(self, path: str) -> _Leaf:
        leaf = super()._leaf(path)
        if f"/{PREFIX}" not in path:
            with contextlib.suppress(OSError):
                leaf.notifier = OomNotifier(path)
        return leaf

    def _happened(self, path: str, leaf: _Leaf) -> bool:
        return leaf.notifier.ran_out() if leaf.notifier is not None else super()._happened(path, leaf)


class OuterCounter(LeafCounter):
    """How often the groups below ``folder`` met limits of their own, sessions of the observer left out (cgroup v2).

    There, ``name`` counts where the limit is, not where the process was. ``judges`` says that sessions were seen.
    """

    judges = False

    def _is_judged(self, path: str, files: Files) -> bool:
        """True for every session, and for what is within one."""
        judged = f"/{PREFIX}" in path.removeprefix(self._folder)
        self.judges = self.judges or judged
        return judged

    def share(self, counted: int, met: int, own: int, peak: int | None) -> int:
        """How many of ``counted`` events were not for the limit of a session.

        ``met`` is how often limits were met in the whole group, ``own`` how often its own was. One event can meet a
        limit several times, when several processes want memory at once: where both kinds were met, the least is said.
        """
        outside = self.read(peak) + own
        if not (counted and self.judges):
            return counted
        return max(counted - max(met - outside, 0), min(outside, 1))


def logged(phrase: str, group: str) -> bool:
    """True when a line of the kernel's log holds ``phrase`` and a path that ends with ``group``; 1 ms for 600 lines."""
    ending = re.compile(re.escape(f"/{group}").encode() + rb"(?![\w/.-])")
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
            if phrase.encode() in record and ending.search(record):
                return True
    except OSError:  # BlockingIOError: the end of the log
        return False
    finally:
        os.close(log)
