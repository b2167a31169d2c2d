"""One group of processes: the parent group of an attempt."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

from observer.cgroups.files import below, processes, read, write
from observer.cgroups.harness import Harness
from observer.cgroups.layout import Layout
from observer.cgroups.readers import Reader, V1Reader, V2Reader
from observer.cgroups.usage import GroupUsage

_FREEZE_SECONDS = 0.05
# First the one that counts CPU time: engines enter one after the other (runc the freezer last, after a while on a busy
# machine), and a group that used some, but in which nobody is, is taken for one in which all is over.
_V1_MEMBERS = ("cpuacct", "memory", "pids", "freezer")


class Group:
    """A parent group in every hierarchy, made by :class:`observer.cgroups.Tree`; for one thread at a time.

    ``parent`` is the string for ``docker --cgroup-parent``, ``where`` the same place below each hierarchy's mount.
    ``adopted`` says that the task runs already: then nothing is known of the engine's own share.
    """

    def __init__(self, layout: Layout, name: str, *, parent: str, where: str, adopted: bool = False) -> None:
        self.name, self.parent = name, parent
        self._folders = tuple(f"{root}/{where}" for root in layout.roots)
        self._freezer = f"{layout.v1['freezer']}/{where}" if "freezer" in layout.v1 else None
        self._harness = Harness(started=adopted)
        self._cpu_time_read: int | None = 0
        self._reader: Reader
        if layout.version == 1 or layout.unified is None:
            v1 = {controller: root / where for controller, root in layout.v1.items()}
            self._members = str(next(v1[name] for name in _V1_MEMBERS if name in v1))
            self._unified: str | None = None
            self._reader = V1Reader(v1)
        else:
            self._members = self._unified = f"{layout.unified}/{where}"
            self._reader = V2Reader(Path(self._members))

    @property
    def started(self) -> bool:
        """True as soon as a reading saw the task's own program (or saw that all is over)."""
        return self._harness.started

    def begun(self) -> None:
        """Tell that the engine has begun the task; from then on it can hardly pass for the engine by its name."""
        self._harness.begun()

    def quiet(self) -> bool:
        """True when nothing ran in it since the last reading (or ever): another one would not tell anything new.

        A tenth of the cost of a reading. False as well where that cannot be told.
        """
        now = self._reader.cpu_time()
        return now is not None and now == self._cpu_time_read

    def read(self) -> GroupUsage:
        """What the task has used, the engine's share taken off as :mod:`observer.cgroups.harness` says.

        Until ``started``, read every 10 ms or so unless it is ``quiet``, then as you like. Goes on answering after the
        container's end.
        """
        # Noted first: what runs while the rest is read must not count as read.
        self._cpu_time_read = self._reader.cpu_time()
        if not self.started and self._cpu_time_read == 0:
            return GroupUsage()
        raw = self._reader.read()
        return self._harness.remove(raw, () if self.started else processes(self._members))

    def kill(self) -> None:
        """End every process at once, also those that fork as fast as they can; returns before they are gone."""
        if self._unified is not None and write(f"{self._unified}/cgroup.kill", "1"):
            return
        self._freeze()
        for pid in processes(self._members):
            if pid > 0:  # 0: outside of our pid namespace, and kill(0) would be ourselves
                _kill(pid)
        self._thaw()

    def processes(self) -> tuple[int, ...]:
        """The processes in it, as far as they can be seen from here."""
        return tuple(pid for pid in processes(self._members) if pid > 0)

    def empty(self) -> bool:
        """True when no process is left, not even a dead one that nobody waited for."""
        return not any(True for _ in processes(self._members))

    def remove(self) -> bool:
        """Remove it and all below it from every hierarchy; False when processes are left in it (try again later)."""
        self._reader.close()
        return all([_remove(folder) for folder in self._folders])

    def _freeze(self) -> None:
        if self._unified is not None:
            write(f"{self._unified}/cgroup.freeze", "1")
        elif self._freezer is not None:
            write(f"{self._freezer}/freezer.state", "FROZEN")
        deadline = time.monotonic() + _FREEZE_SECONDS
        while not self._frozen() and time.monotonic() < deadline:
            time.sleep(0.001)

    def _frozen(self) -> bool:
        if self._unified is not None:
            return "frozen 1" in read(f"{self._unified}/cgroup.events")
        return self._freezer is None or read(f"{self._freezer}/freezer.state") == "FROZEN\n"

    def _thaw(self) -> None:
        """Thaw also what somebody else froze (``docker pause``): a frozen process does not die on v1."""
        folder, name, word = self._freezer, "freezer.state", "THAWED"
        if self._unified is not None:
            folder, name, word = self._unified, "cgroup.freeze", "0"
        if folder is not None:
            for each in (folder, *below(folder)):
                write(f"{each}/{name}", word)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remove(folder: str) -> bool:
    try:
        os.rmdir(folder)  # the usual case: the engine has removed what was below
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    else:
        return True
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
