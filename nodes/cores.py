"""Which processor cores belong to which attempt: whole numbers of cores are pinned, and nobody shares them."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager


class Cores:
    """Hands out disjoint sets of cores, for many threads at once; by default of those that this process may use."""

    def __init__(self, available: Collection[int] | None = None) -> None:
        self._free = set(os.sched_getaffinity(0) if available is None else available)
        self._taken: dict[str, tuple[int, ...]] = {}
        self._lock = threading.Lock()

    @property
    def free(self) -> frozenset[int]:
        """The cores that are nobody's."""
        with self._lock:
            return frozenset(self._free)

    def take(self, attempt: str, cpus: float | None) -> tuple[int, ...]:
        """Cores for an attempt; the same again when it has some.

        Empty when ``cpus`` is no whole number (a share of all cores is meant then), or when not so many are free.
        """
        with self._lock:
            if attempt in self._taken:
                return self._taken[attempt]
            if not cpus or cpus % 1 or cpus > len(self._free):
                return ()
            chosen = tuple(sorted(self._free)[: int(cpus)])
            self._free.difference_update(chosen)
            self._taken[attempt] = chosen
            return chosen

    def retake(self, attempt: str, cores: Collection[int]) -> None:
        """Note down the cores on which an attempt of a former start runs already, as far as they are nobody else's."""
        with self._lock:
            if attempt not in self._taken:
                self._taken[attempt] = tuple(sorted(self._free.intersection(cores)))
                self._free.difference_update(cores)

    def release(self, attempt: str) -> None:
        """Take the cores of an attempt back; nothing happens when it has none."""
        with self._lock:
            self._free.update(self._taken.pop(attempt, ()))

    @contextmanager
    def taken(self, attempt: str, cpus: float | None) -> Iterator[tuple[int, ...]]:
        """``take`` and ``release`` as a context."""
        try:
            yield self.take(attempt, cpus)
        finally:
            self.release(attempt)
