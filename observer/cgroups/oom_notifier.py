"""What the kernel tells by itself of a group of cgroup v1 that runs out of memory."""

from __future__ import annotations

import contextlib
import os
import select
import time

_NEVER_BYTES = 1 << 60
_REMOVAL_SECONDS = 1.0
_TOGETHER_SECONDS = 0.02


class OomNotifier:
    """Whether the group at ``folder`` ran out of memory by its own limit; to be asked when the group is gone.

    The kernel's event counts the times *before* a process is killed for it, so that none is missed, however soon the
    group goes after that. It counts once more when the group is removed; a second event, for an amount of memory that
    no group reaches, counts the removal only. OSError: the kernel has no such events (CONFIG_MEMCG_V1), or the group is
    gone.
    """

    def __init__(self, folder: str) -> None:
        # The newest event is told first: when the removal is known, the other event has counted it, or is about to.
        self._removal = _Event(folder, "memory.usage_in_bytes", str(_NEVER_BYTES))
        try:
            self._oom = _Event(folder, "memory.oom_control")
        except OSError:
            self._removal.close()
            raise

    def ran_out(self) -> bool:
        """True when it did; waits for the kernel to be through with the removal (some 30 ms, 1 s at the most)."""
        if self._oom.count() > 1:
            return True
        removals = self._removal.count(_REMOVAL_SECONDS)
        if removals and self._oom.count() <= removals:
            time.sleep(_TOGETHER_SECONDS)
        return self._oom.count() > removals

    def close(self) -> None:
        """Let go of the events."""
        self._removal.close()
        self._oom.close()


class _Event:
    """An event of a group, such as "the memory in use crosses ``argument``"; ``file`` says what it is about."""

    def __init__(self, folder: str, file: str, argument: str = "") -> None:
        self._seen = 0
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            about = os.open(f"{folder}/{file}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                with open(f"{folder}/cgroup.event_control", "w") as control:
                    control.write(f"{self._bell} {about} {argument}")
            finally:
                os.close(about)
        except OSError:
            self.close()
            raise

    def count(self, seconds: float = 0.0) -> int:
        """How often it was told so far; waits for the first time for as long as ``seconds``."""
        if not self._seen and seconds:
            waiting = select.poll()
            waiting.register(self._bell, select.POLLIN)
            waiting.poll(seconds * 1000)
        with contextlib.suppress(BlockingIOError):
            self._seen += os.eventfd_read(self._bell)
        return self._seen

    def close(self) -> None:
        os.close(self._bell)
