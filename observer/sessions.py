"""The sessions of one observer: boxes with a secret, an age and an end. Knows of no sockets and reads no clock."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import math
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from observer.callers import Caller
from observer.cgroups.box import Box, LimitError
from observer.cgroups.boxes import new_box
from observer.cgroups.layout import Layout
from observer.cgroups.membership import UNIFIED, group_name, home, sessions_above
from observer.errors import Busy, Failed, Forbidden
from observer.limits import SessionLimits
from observer.perf import PerfCounters
from observer.protocol import Request
from observer.stats import Ended, Stats

KEPT_SECONDS = 300.0
KEPT_SESSIONS = 64
END_SECONDS = 2.0
SESSIONS_EACH = 64
_SOONEST_SECONDS = 0.002


@dataclass(slots=True)
class Session:
    """One session; ``homes`` are the groups in which its box is, ``inside`` the ids of the sessions around it."""

    id: str
    creator: int
    scope: str
    homes: dict[str, str]
    inside: tuple[str, ...]
    box: Box
    opened: float
    limits: SessionLimits = field(default_factory=SessionLimits)
    perf: PerfCounters | None = None
    frozen: bool = False
    joined: bool = False
    """Somebody has been moved in."""
    last: Stats | None = None

    @property
    def deadline(self) -> float | None:
        """The monotonic time at which it is ended."""
        return None if self.limits.time is None else self.opened + self.limits.time

    def over(self, now: float) -> bool:
        """Whether its time is up; it is about to be ended then."""
        return self.deadline is not None and self.deadline <= now


@dataclass(frozen=True, slots=True)
class _Kept:
    scope: str
    stats: Stats
    until: float


class Sessions:
    """Every operation of the protocol; ``now`` is a monotonic time. Those of one scope must not overlap.

    ``open_stats`` lets stats be read without the secret, from within the same container, as kolejka does.
    """

    def __init__(
        self, layout: Layout, *, tag: str, each: int = SESSIONS_EACH, open_stats: bool = False, key: bytes | None = None
    ) -> None:
        self._layout, self._tag, self._each, self._open_stats = layout, tag, each, open_stats
        self._key = key or secrets.token_bytes(32)
        self._sessions: dict[str, Session] = {}
        self._ended: dict[str, OrderedDict[str, _Kept]] = {}
        self._ended_lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def secret(self, session_id: str) -> str:
        """The secret of a session: 40 hexadecimal digits, which only this process can tell from the id."""
        return hmac.new(self._key, session_id.encode(), hashlib.sha1).hexdigest()

    def get(self, session_id: str) -> Session | None:
        """A session that lives."""
        return self._sessions.get(session_id)

    def open(self, caller: Caller, now: float) -> Session:
        """A new session in the caller's group; the caller stays where it is. Raises Busy, Failed."""
        if sum(1 for one in self if one.scope == caller.scope) >= self._each:
            raise Busy(f"no more than {self._each} sessions at one time for one container")
        homes = self._homes(caller)
        inside = sessions_above(homes.get(UNIFIED, "/") if self._layout.version == 2 else self._members(homes))
        self._check_nesting(inside)
        session_id = secrets.token_hex(16)
        try:
            box = new_box(self._layout, homes, group_name(self._tag, session_id))
        except OSError as error:
            raise Failed(f"no group can be made: {error.strerror}") from error
        session = Session(session_id, caller.pid, caller.scope, homes, inside, box, now)
        self._sessions[session_id] = session
        return session

    def attach(self, session: Session, caller: Caller) -> None:
        """Move the caller in. Raises Failed when it is not in the group in which the session was opened."""
        if not (self._is_home(session, caller) or self._is_in(session, caller)):
            raise Failed("the caller is not in the group in which the session was opened")
        try:
            session.box.join(caller.pid)
            session.joined = True
        except OSError as error:
            raise Failed(f"the caller cannot be moved: {error.strerror}") from error

    def detach(self, session: Session, caller: Caller) -> None:
        """Move the caller back. Raises Failed when it is in neither."""
        if not (self._is_home(session, caller) or self._is_in(session, caller)):
            raise Failed("the caller is not in this session")
        try:
            session.box.leave(caller.pid)
        except OSError as error:
            raise Failed(f"the caller cannot be moved: {error.strerror}") from error

    def limit(self, session: Session, limits: SessionLimits) -> None:
        """Set those limits that are given; a time that is not given is lifted. Raises Failed with the limit's name."""
        box = session.box
        try:
            # kolejka's judges say "no swap" with every step; without a limit of memory that means nothing there.
            if limits.swap is not None and limits.memory is None and not self._open_stats:
                raise LimitError("swap: only together with memory")
            if limits.cpu_time is not None:
                box.cpu_seconds()
            if session.perf is None and limits.perf:
                session.perf = self._perf(session)
            if limits.memory is not None:
                box.limit_memory(limits.memory, limits.swap)
            if limits.cpus is not None:
                box.limit_cores(choose_cores(box.cores(), limits.cpus, limits.cpus_offset or 0))
            if limits.pids is not None:
                box.limit_pids(limits.pids)
        except LimitError as error:
            raise Failed(str(error)) from error
        except OSError as error:
            raise Failed(f"the limits cannot be set: {error.strerror}") from error
        session.limits = limits.after(session.limits)

    def stats(self, session_id: str, now: float) -> Stats | None:
        """The counters of a session, until five minutes after its end; None when it is not known (any more)."""
        session = self._sessions.get(session_id)
        if session is not None:
            found = self._read(session, now)
            return replace(found, ended=Ended.TIME_LIMIT) if session.over(now) else found
        kept = self._kept(session_id)
        return kept.stats if kept is not None and kept.until > now else None

    def spent(self, session: Session) -> tuple[float, Ended | None]:
        """How long limits on what is counted cannot be reached for sure (infinite: ever), and which one is reached.

        This alone may be asked at any time, also while something is done in the session's scope.
        """
        wait, most = math.inf, session.limits.cpu_time
        if most is not None:
            left = most - session.box.cpu_seconds()
            if left <= 0:
                return 0.0, Ended.CPU_TIME_LIMIT
            wait = max(_SOONEST_SECONDS, left / (os.cpu_count() or 1))
        if session.perf is not None and session.limits.perf:
            perf = session.perf.wait_seconds(session.limits.perf)
            return (min(wait, perf), None) if perf else (0.0, Ended.PERF_LIMIT)
        return wait, None

    def close(self, session: Session, now: float, cause: Ended) -> None:
        """End all processes in it, and remove it with the sessions within. Raises Failed when one does not die.

        Whoever asks for it when its time is up already, it ends for that.
        """
        cause = Ended.TIME_LIMIT if session.over(now) else cause
        if not session.box.end(END_SECONDS):
            raise Failed("some processes cannot be ended now; it is tried again")
        for inner in [one for one in self if session.id in one.inside]:
            self._finish(inner, now, cause)
        self._finish(session, now, cause)

    def allow(self, caller: Caller, request: Request) -> Session | None:
        """The session of a request, if it lives. Raises Forbidden when the caller may not touch it."""
        known = hmac.compare_digest(request.secret, self.secret(request.session_id))
        if not known and not (request.operation == "stats" and self._open_stats):
            raise Forbidden("the secret is wrong")
        session, kept = self._sessions.get(request.session_id), self._kept(request.session_id)
        scope = session.scope if session is not None else kept.scope if kept is not None else caller.scope
        if scope != caller.scope and not caller.master:
            raise Forbidden("the session is another container's")
        return session

    def forget(self, now: float) -> None:
        """Drop what was kept of sessions that ended more than five minutes ago."""
        with self._ended_lock:
            for scope, kept in list(self._ended.items()):
                while kept and next(iter(kept.values())).until <= now:
                    kept.popitem(last=False)
                if not kept:
                    del self._ended[scope]

    def _finish(self, session: Session, now: float, cause: Ended) -> None:
        stats = self._read(session, now)
        if session.perf is not None:
            session.perf.close()
        if not session.box.remove():
            raise Failed("the group cannot be removed now; it is tried again")
        if self._sessions.pop(session.id, None) is None:
            return
        self.forget(now)
        ended = Stats(stats.usage, stats.seconds, stats.instructions, stats.cycles, cause)
        with self._ended_lock:
            kept = self._ended.setdefault(session.scope, OrderedDict())
            kept[session.id] = _Kept(session.scope, ended, now + KEPT_SECONDS)
            while len(kept) > KEPT_SESSIONS:
                kept.popitem(last=False)

    def _read(self, session: Session, now: float) -> Stats:
        counts = session.perf.read() if session.perf is not None else {}
        found = Stats(
            session.box.read(), now - session.opened, counts.get("perf_instructions"), counts.get("perf_cycles")
        )
        session.last = found.after(session.last)
        return session.last

    def _kept(self, session_id: str) -> _Kept | None:
        with self._ended_lock:
            return next((kept[session_id] for kept in self._ended.values() if session_id in kept), None)

    def _homes(self, caller: Caller) -> dict[str, str]:
        """Where a box for this caller goes: its own group; of cgroup v2, the root's for root of the machine.

        The groups of a machine's services are not ours to rebuild, which a box within them would need there.
        """
        if self._layout.version == 1 or not caller.on_host:
            return caller.homes
        if sessions_above(caller.groups.get(UNIFIED, "/")):
            return caller.homes
        if not caller.master:
            raise Failed("on cgroup v2 only root may have sessions outside of containers")
        return {UNIFIED: "/"}

    def _members(self, homes: dict[str, str]) -> str:
        return next((homes[name] for name in ("cpuacct", "memory", "pids") if name in self._layout.v1), "/")

    def _used(self) -> tuple[str, ...]:
        return (UNIFIED,) if self._layout.version == 2 else ("cpuacct", "memory", "pids")

    def _is_home(self, session: Session, caller: Caller) -> bool:
        homes = self._homes(caller)
        return all(homes.get(name) == session.homes.get(name) for name in self._used() if name in homes)

    def _is_in(self, session: Session, caller: Caller) -> bool:
        name = group_name(self._tag, session.id)
        within = {f"{session.homes.get(one, '/').rstrip('/')}/{name}" for one in self._used()}
        return any(home(caller.groups.get(one, "/")) in within for one in self._used())

    def _check_nesting(self, inside: tuple[str, ...]) -> None:
        """Hold ``cgroup_depth`` and ``cgroup_descendants`` of every session around the new one."""
        for depth, outer in enumerate(reversed([self._sessions.get(one) for one in inside]), 1):
            if outer is None:
                continue
            if outer.limits.cgroup_depth is not None and depth > outer.limits.cgroup_depth:
                raise Failed(f"cgroup_depth: {outer.limits.cgroup_depth} levels of sessions are allowed in this one")
            most, there = outer.limits.cgroup_descendants, sum(1 for one in self if outer.id in one.inside)
            if most is not None and there >= most:
                raise Failed(f"cgroup_descendants: {most} sessions are allowed in this one")

    def _perf(self, session: Session) -> PerfCounters:
        folder = session.box.killer
        if folder is None or "perf_event" in self._layout.v1:
            raise LimitError("perf_instructions, perf_cycles: only where perf_event is of the unified control groups")
        return PerfCounters(folder)


def choose_cores(available: tuple[int, ...], wanted: int, offset: int) -> tuple[int, ...]:
    """``wanted`` processors from the ``offset``-th on; from the first on if there are too few behind it."""
    start = offset if offset + wanted <= len(available) else 0
    return tuple(itertools.islice(available, start, start + wanted))
