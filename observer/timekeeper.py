"""Ends the processes of sessions at their deadlines, from a process of its own that the kernel runs before all others.

So a deadline is met whatever the machine is busy with, and whatever callers ask of the observer meanwhile. Nobody talks
to this process but the observer, which ends the session itself, and its processes too if this one should be gone.

It also keeps the kernel ready to move processes. Whoever moves the first one for some time waits until each processor
has passed a quiet state (``cgroup_threadgroup_rwsem``, an RCU grace period: 5 to 20 ms); those who come within some
milliseconds do not. A judge sets limits, starts a program and moves it in: the wait begins when the limits are set.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import threading
import time
from dataclasses import dataclass

from observer.cgroups.box import Box, kill_all
from observer.cgroups.layout import Layout
from observer.cgroups.membership import UNIFIED, membership

READY_SECONDS = 0.5
_READY_EVERY_SECONDS = 0.004
_LONGEST = 1 << 16
_PRIORITY = 1
_NICE = -20


class Timekeeper:
    """The observer's end of it; make it before any thread, for it forks."""

    def __init__(self, layout: Layout) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if not self._pid:
            ours.close()
            _keep(theirs, _own_group(layout))
        theirs.close()
        ours.setblocking(False)
        self._socket = ours

    def set(self, session_id: str, deadline: float | None, box: Box) -> None:
        """End the processes of a session at this monotonic time; None: do not."""
        self._tell(id=session_id, at=deadline, killer=box.killer, members=box.members)

    def forget(self, session_id: str) -> None:
        """The session is no more."""
        self._tell(id=session_id, at=None)

    def ready(self, seconds: float) -> None:
        """A process will be moved within so many seconds; 0: it has been."""
        self._tell(ready=seconds)

    def close(self) -> None:
        """End it."""
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _tell(self, **words: object) -> None:
        # It hangs or is gone: the observer's own timers are there too, they are only later on a busy machine.
        with contextlib.suppress(OSError):
            self._socket.send(json.dumps(words).encode())


@dataclass(frozen=True, slots=True)
class _Due:
    at: float
    killer: str | None
    members: str


def _keep(messages: socket.socket, own_group: str | None) -> None:
    """The process itself; it ends with the observer."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        gc.disable()
        _before_all_others()
        readiness = _Readiness(own_group)
        due: dict[str, _Due] = {}
        while _hear(messages, due, readiness):
            _strike(due)
    finally:
        os._exit(0)


def _before_all_others() -> None:
    """Where the kernel gives no real time to groups such as ours, at least the best of the usual priorities."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except OSError:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def _hear(messages: socket.socket, due: dict[str, _Due], readiness: _Readiness) -> bool:
    """Wait for the next message or deadline; False when the observer has ended."""
    soonest = min((one.at for one in due.values()), default=None)
    wait = None if soonest is None else max(0.0, soonest - time.monotonic())
    if not select.select([messages], [], [], wait)[0]:
        return True
    packet = messages.recv(_LONGEST)
    if not packet:
        return False
    said = json.loads(packet)
    if "ready" in said:
        readiness.until(time.monotonic() + said["ready"])
    elif said["at"] is None:
        due.pop(said["id"], None)
    else:
        due[said["id"]] = _Due(said["at"], said["killer"], said["members"])
    return True


def _strike(due: dict[str, _Due]) -> None:
    now = time.monotonic()
    for session_id in [name for name, one in due.items() if one.at <= now]:
        one = due.pop(session_id)
        kill_all(one.killer, one.members)


class _Readiness:
    """Moves this very process to where it is, which is a move to the kernel, as long as somebody wants to be quick."""

    def __init__(self, own_group: str | None) -> None:
        self._until, self._wanted = 0.0, threading.Event()
        if own_group is not None:
            threading.Thread(target=self._run, args=(own_group,), daemon=True).start()

    def until(self, when: float) -> None:
        """Stay ready until this monotonic time."""
        self._until = when
        self._wanted.set()

    def _run(self, own_group: str) -> None:
        own = str(os.getpid()).encode()
        while True:
            self._wanted.wait()
            self._wanted.clear()
            while time.monotonic() < self._until:
                with contextlib.suppress(OSError), open(f"{own_group}/cgroup.procs", "wb", buffering=0) as procs:
                    procs.write(own)
                time.sleep(_READY_EVERY_SECONDS)


def _own_group(layout: Layout) -> str | None:
    """The folder of the group that this process is in."""
    groups = membership(os.getpid())
    if layout.unified is not None:
        return f"{layout.unified}{groups.get(UNIFIED, '/')}"
    name = next((name for name in ("pids", "cpuacct", "memory") if name in layout.v1), None)
    return None if name is None else f"{layout.v1[name]}{groups.get(name, '/')}"
