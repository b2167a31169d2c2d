"""A group below the one that a process is in already: it is limited, counted, frozen and ended for itself.

Unlike :class:`observer.cgroups.Group`, which an engine fills with a container, a box is made within a container's
group and filled process by process. It has a folder in each hierarchy that is needed: on a hybrid machine the limits
are those of cgroup v1, and freezing and ending go by the unified hierarchy, where frozen processes can be ended.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from observer.cgroups.files import below, processes, read, write
from observer.cgroups.usage import GroupUsage

FREEZE_SECONDS = 2.0
_LOOKS = (0.00005,) * 10
_PAUSES = (0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.004)
_FIRST = -20
_KILL_BIT = 1 << (signal.SIGKILL - 1)


@dataclass(frozen=True, slots=True)
class BoxUsage:
    """What the processes of a box have used; ``cores`` are seconds of each processor, where the kernel tells."""

    group: GroupUsage
    cores: tuple[float, ...] = ()
    swap_bytes: int | None = None
    swap_peak_bytes: int | None = None
    memory_failures: int | None = None


class LimitError(Exception):
    """A limit that cannot be held here; the text begins with its name."""


class Box(ABC):
    """One box: ``members`` is the folder that tells its processes, ``killer`` its unified one if there is any."""

    members: str
    killer: str | None

    @abstractmethod
    def join(self, pid: int) -> None:
        """Move a process in, with all its threads. OSError when it is gone or the kernel refuses."""

    @abstractmethod
    def leave(self, pid: int) -> None:
        """Move a process to the group that the box is in."""

    @abstractmethod
    def limit_memory(self, memory: int, swap: int | None) -> None:
        """Bytes of memory, and of swap besides. Raises LimitError, also when more is in use that cannot be given up."""

    @abstractmethod
    def limit_pids(self, pids: int) -> None:
        """Processes and threads. Raises LimitError."""

    @abstractmethod
    def limit_cores(self, cores: tuple[int, ...]) -> None:
        """Which processors it may use. Raises LimitError."""

    @abstractmethod
    def cores(self) -> tuple[int, ...]:
        """The processors that the group which the box is in has. Raises LimitError where that is not told."""

    @abstractmethod
    def read(self) -> BoxUsage:
        """All counters of now."""

    @abstractmethod
    def cpu_seconds(self) -> float:
        """Processor time so far; of all readings the only one that may go along with others."""

    @abstractmethod
    def folders(self) -> tuple[str, ...]:
        """Its folder in every hierarchy."""

    @abstractmethod
    def close_files(self) -> None:
        """Let go of open files."""

    @abstractmethod
    def hold(self, frozen: bool) -> None:
        """Ask for all processes to be frozen, or to go on. OSError where that is not possible."""

    @abstractmethod
    def held(self) -> bool:
        """Whether all of them are frozen."""

    def freeze(self) -> None:
        """Freeze every process; TimeoutError when one does not stop within two seconds (then all go on)."""
        self.hold(True)
        deadline, pauses = time.monotonic() + FREEZE_SECONDS, itertools.chain(_LOOKS, itertools.repeat(0.0005))
        while not self.held():
            if time.monotonic() > deadline:
                self.hold(False)
                raise TimeoutError("a process cannot be frozen now")
            time.sleep(next(pauses))

    def thaw(self) -> None:
        """Let every process go on, those of boxes within it too."""
        self.hold(False)

    def strike(self) -> None:
        """End every process that is there now; one that is just being forked may escape, :meth:`end` gets it."""
        if self.killer is not None and write(f"{self.killer}/cgroup.kill", "1"):
            return
        with contextlib.suppress(OSError):
            self.hold(True)
        kill_each(self.members)
        with contextlib.suppress(OSError):
            self.thaw()

    def end(self, patience: float) -> bool:
        """End all processes and wait until they are gone; False when some were not after ``patience`` seconds."""
        deadline, tries = time.monotonic() + patience, 0
        while not self.empty():
            self.strike()
            for pause in _PAUSES:
                if self.empty():
                    return True
                time.sleep(pause)
            tries += 1
            if time.monotonic() > deadline:
                return False
            time.sleep(min(0.002 * tries, 0.05))
        return True

    def empty(self) -> bool:
        """True when no process is left in it."""
        return not any(True for _ in processes(self.members))

    def first(self) -> int | None:
        """One of its processes."""
        return next((pid for pid in processes(self.members) if pid > 0), None)

    def doomed(self) -> bool:
        """True when somebody wants to end one of its processes, which a frozen one of cgroup v1 does not obey."""
        return any(_kill_pending(read(f"/proc/{pid}/status")) for pid in processes(self.members) if pid > 0)

    def remove(self) -> bool:
        """Remove it and all below it; False when processes are left in it."""
        self.close_files()
        return all([remove_tree(folder) for folder in self.folders()])


def kill_all(killer: str | None, members: str) -> None:
    """End the processes of a box of which only the folders ``killer`` and ``members`` are at hand; some may escape.

    What is killed does nothing more but die, for which it has to be given a processor: it goes before all others then.
    """
    if killer is None or not write(f"{killer}/cgroup.kill", "1"):
        kill_each(members)
    for folder in (members, *below(members)):
        for thread in (read(f"{folder}/tasks") or read(f"{folder}/cgroup.threads")).split():
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(thread), _FIRST)


def kill_each(members: str) -> None:
    """End every process of a group that is seen there, one after the other."""
    for pid in processes(members):
        if pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def control(path: str, text: str) -> None:
    """Write a control file. OSError as the kernel has it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def set_limit(name: str, path: str, text: str) -> None:
    """Write a limit. Raises LimitError with its name."""
    try:
        control(path, text)
    except FileNotFoundError as error:
        raise LimitError(f"{name}: this machine has no control groups for it") from error
    except OSError as error:
        why = "more than that is in use" if error.errno == errno.EBUSY else error.strerror
        raise LimitError(f"{name}: {why}") from error


def parse_cores(text: str) -> tuple[int, ...]:
    """The numbers in ``0-2,5``."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def remove_tree(folder: str) -> bool:
    """Remove a group and all below it (idempotent); False when processes are left in one."""
    for each in reversed([folder, *below(folder)]):
        try:
            os.rmdir(each)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            raise
    return True


def _kill_pending(status: str) -> bool:
    masks = [line.split()[1] for line in status.splitlines() if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(int(mask, 16) & _KILL_BIT for mask in masks)
