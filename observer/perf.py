"""Counters of the processor for a group, where the machine has them: perf_event_open(2), ``PERF_FLAG_PID_CGROUP``."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import threading
from collections.abc import Mapping

from observer.cgroups.box import LimitError

EVENTS = {"perf_instructions": 1, "perf_cycles": 0}
_SYSCALL = {"x86_64": 298, "aarch64": 241}
_SIZE = 128
_ATTRIBUTES = struct.Struct("IIQQQQQ")  # type, size, config, sample_period, sample_type, read_format, flags
_READ_FORMAT = 1 | 2  # with the times enabled and running: the processor may count in turns
_COUNTS = struct.Struct("QQQ")
_PID_CGROUP, _CLOEXEC = 4, 8
_EVENTS_PER_SECOND = 2e10
"""More than any core does: a limit cannot be reached sooner than at this rate."""

_SOONEST_SECONDS = 0.002


class PerfCounters:
    """Instructions and cycles of a group of the unified hierarchy, on all processors, from now on.

    Raises LimitError where the machine does not count them, or the kernel does not let us.
    """

    def __init__(self, folder: str) -> None:
        self._files: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        try:
            group = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise LimitError(f"perf_instructions, perf_cycles: {error.strerror}") from error
        try:
            for name, event in EVENTS.items():
                self._files[name] = []
                for core in sorted(os.sched_getaffinity(0)):
                    self._files[name].append(_open(name, event, group, core))
        except LimitError:
            self.close()
            raise
        finally:
            os.close(group)

    def read(self) -> dict[str, int]:
        """Events so far, by the names of the limits."""
        with self._lock:
            return {name: sum(map(_count, files)) for name, files in self._files.items()}

    def wait_seconds(self, most: Mapping[str, int]) -> float:
        """How long no limit of ``most`` can be reached for sure; 0 when one is."""
        counts = self.read()
        left = min((most[name] - counts[name] for name in most), default=0)
        cores = max(1, *(len(files) for files in self._files.values()))
        return 0.0 if left <= 0 else max(_SOONEST_SECONDS, left / (_EVENTS_PER_SECOND * cores))

    def close(self) -> None:
        """Stop counting."""
        with self._lock:
            for files in self._files.values():
                for descriptor in files:
                    os.close(descriptor)
                files.clear()


def _open(name: str, event: int, group: int, core: int) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise LimitError(f"{name}: not known how to count it on {platform.machine()}")
    packed = _ATTRIBUTES.pack(0, _SIZE, event, 0, 0, _READ_FORMAT, 0).ljust(_SIZE, b"\0")
    call = ctypes.CDLL(None, use_errno=True).syscall
    descriptor = int(call(number, ctypes.c_char_p(packed), group, core, -1, _PID_CGROUP | _CLOEXEC))
    if descriptor >= 0:
        return descriptor
    code = ctypes.get_errno()
    why = "this machine does not count it" if code in (errno.ENOENT, errno.EOPNOTSUPP) else os.strerror(code)
    raise LimitError(f"{name}: {why}")


def _count(descriptor: int) -> int:
    value, enabled, running = _COUNTS.unpack(os.read(descriptor, _COUNTS.size))
    return value * enabled // running if running else 0
