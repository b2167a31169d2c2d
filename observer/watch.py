"""What happens to sessions by itself: their deadlines, and the end of whoever opened them.

Nothing is asked again and again: a deadline is a timer of the event loop, the end of a process wakes a descriptor. What
runs at the deadline of a busy machine is the timekeeper's; here the session is ended in order.
Only a session that is limited in processor time or events, or that is frozen by cgroup v1, is looked at repeatedly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from observer.callers import Peer
from observer.errors import Failed
from observer.sessions import Session, Sessions
from observer.stats import Ended
from observer.timekeeper import Timekeeper

log = logging.getLogger("observer")
_AGAIN_SECONDS = 1.0
_FROZEN_SECONDS = 1.0
_STRIKERS = 4


class InTurn(Protocol):
    """Does work in a thread, after what was asked before in the same scope."""

    def __call__(self, scope: str, work: Callable[[], None], /) -> Awaitable[None]: ...


@dataclass(slots=True)
class _Watched:
    session: Session
    timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    deadline: float | None = None
    process: int = -1
    """A descriptor (pidfd) of the creator, or of a process in the session when that has ended."""


class Watch:
    """Watches the sessions of one observer, in its event loop; the loop's clock is the monotonic one."""

    def __init__(self, sessions: Sessions, in_turn: InTurn, timekeeper: Timekeeper) -> None:
        self._sessions, self._in_turn, self._timekeeper = sessions, in_turn, timekeeper
        self._watched: dict[str, _Watched] = {}
        self._told: dict[str, float | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Not the threads that answer: a deadline does not wait until somebody's request has been carried out.
        self._strikers = ThreadPoolExecutor(_STRIKERS, thread_name_prefix="deadline")

    def arm(self, session: Session) -> None:
        """Tell the timekeeper of the deadline: from any thread, in its turn, before the caller is answered."""
        if self._sessions.get(session.id) is session and session.deadline != self._told.get(session.id):
            self._told[session.id] = session.deadline
            self._timekeeper.set(session.id, session.deadline, session.box)

    def look(self, session: Session, creator: Peer | None) -> None:
        """Set the clocks of a session after something was done to it; ``creator`` is given with a new one."""
        if self._sessions.get(session.id) is not session:
            for gone in [one for one in self._watched.values() if self._sessions.get(one.session.id) is None]:
                self._drop(gone)
            return
        watched = self._watched.setdefault(session.id, _Watched(session))
        if creator is not None:
            self._hold(watched, creator.give())
        if session.deadline != watched.deadline:
            watched.deadline = session.deadline
            self._set(watched, "deadline", session.deadline, self._deadline)
        first = time.monotonic()
        counted = session.limits.perf or session.limits.cpu_time is not None
        self._set(watched, "counted", first if counted else None, self._counted)
        self._set(watched, "frozen", first if session.frozen and session.box.killer is None else None, self._frozen)

    async def close(self) -> None:
        """End every session."""
        for watched in list(self._watched.values()):
            self._drop(watched)
        ends = [self._end(one, Ended.SHUTDOWN) for one in self._sessions if not one.inside]
        await asyncio.gather(*ends, *self._tasks, return_exceptions=True)
        for left in self._sessions:
            await self._end(left, Ended.SHUTDOWN)
        self._strikers.shutdown()

    def _set(self, watched: _Watched, name: str, when: float | None, then: Callable[[_Watched], None]) -> None:
        if (timer := watched.timers.pop(name, None)) is not None:
            timer.cancel()
        if when is not None:
            watched.timers[name] = asyncio.get_running_loop().call_at(when, then, watched)

    def _deadline(self, watched: _Watched) -> None:
        self._spawn(self._end(watched.session, Ended.TIME_LIMIT))

    def _counted(self, watched: _Watched) -> None:
        """Look again when a limit could be reached at the earliest: the nearer it is, the sooner."""
        session = watched.session
        if self._sessions.get(session.id) is not session:
            return
        wait, reached = self._sessions.spent(session)
        if reached is not None:
            self._spawn(self._end(session, reached))
        elif wait < math.inf:
            self._set(watched, "counted", time.monotonic() + wait, self._counted)

    def _frozen(self, watched: _Watched) -> None:
        """A process that cgroup v1 has frozen does not die: somebody who ends its container would wait for ever."""
        session = watched.session
        if session.box.doomed():
            with contextlib.suppress(OSError):
                session.box.thaw()
            session.frozen = False
        elif session.frozen:
            self._set(watched, "frozen", time.monotonic() + _FROZEN_SECONDS, self._frozen)

    async def _end(self, session: Session, cause: Ended) -> None:
        """End its processes at once, then the session itself; again in a second if that fails."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._strikers, session.box.strike)
        try:
            await self._in_turn(session.scope, lambda: self._close(session, cause))
        except (Failed, OSError) as error:
            log.warning("session %s: %s", session.id, error)
            if (watched := self._watched.get(session.id)) is not None:
                self._set(watched, "deadline", loop.time() + _AGAIN_SECONDS, self._deadline)
            return
        self.look(session, None)

    def _close(self, session: Session, cause: Ended) -> None:
        if self._sessions.get(session.id) is session:
            self._sessions.close(session, time.monotonic(), cause)

    def _hold(self, watched: _Watched, descriptor: int) -> None:
        self._let_go(watched)
        watched.process = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._process_ended, watched)

    def _let_go(self, watched: _Watched) -> None:
        if watched.process >= 0:
            asyncio.get_running_loop().remove_reader(watched.process)
            os.close(watched.process)
        watched.process = -1

    def _process_ended(self, watched: _Watched) -> None:
        self._let_go(watched)
        self._spawn(self._orphan(watched))

    async def _orphan(self, watched: _Watched) -> None:
        """The creator has ended: the session ends with the last of its processes. Nobody is left who would thaw it."""
        session = watched.session
        if session.frozen:
            session.frozen = False
            with contextlib.suppress(OSError):
                session.box.thaw()
        while self._sessions.get(session.id) is session:
            pid = session.box.first()
            if pid is None:
                return await self._end(session, Ended.LEFT)
            with contextlib.suppress(OSError):  # it has ended meanwhile
                return self._hold(watched, os.pidfd_open(pid))
            await asyncio.sleep(0.001)
        return None

    def _drop(self, watched: _Watched) -> None:
        for timer in watched.timers.values():
            timer.cancel()
        watched.timers.clear()
        if self._told.pop(watched.session.id, None) is not None:
            self._timekeeper.forget(watched.session.id)
        self._let_go(watched)
        self._watched.pop(watched.session.id, None)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
