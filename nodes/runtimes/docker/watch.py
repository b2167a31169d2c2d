"""Holding a running program to its time limits and to the wish that it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from nodes.runtimes import Stop
from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.errors import EngineError, EngineGone
from nodes.runtimes.docker.follow import Follower
from nodes.runtimes.docker.meter import Meter
from observer.cgroups import GroupUsage
from tasks.limits import Limits
from tasks.states import StopCause
from tasks.units import human_seconds

GRACE_SECONDS = 2.0
# Before that no engine has put anything into the group; then often, to tell its share from the program's. On a busy
# machine, where starting takes long, each of its steps does: looking may become rarer as time goes by.
_FIRST_PAUSE_SECONDS = 0.05
_STARTING_SHARE = 1 / 20
_STARTING_MOST_SECONDS = 0.05
_STARTING_SECONDS = 1.0
_LEAST_PAUSE_SECONDS = 0.01
_MOST_PAUSE_SECONDS = 0.1
_KILL_PAUSE_SECONDS = 0.1
# A container that did not die with its group (or has none): ask the engine, which may be slower.
_INSIST_SECONDS = 1.0
_STORED_PAUSE_SECONDS, _STORED_MOST_SECONDS, _STORED_SHARE = 0.25, 2.0, 20
_CORES = os.cpu_count() or 1


class Watch:
    """Watches one program to its end. ``since`` is the monotonic time at which it began, None until that is known.

    ``stored`` says what the program has stored too much outside of its workspace, where that is possible: it is asked
    once in a while, and at the end. ``acted`` is True when we ended it, for the reason that ``stop`` holds.
    """

    def __init__(self, engine: Engine, container: str, meter: Meter, limits: Limits, stop: Stop) -> None:
        self.since: float | None = None
        self.acted = False
        self.stored: Callable[[], str] | None = None
        self._stored_at = 0.0
        self._engine, self._container, self._meter, self._limits, self._stop = engine, container, meter, limits, stop
        self._waiting_since = 0.0
        self._asked_at: float | None = None
        self._killed_at: float | None = None
        self._gone_at: float | None = None

    def until_end(self, follower: Follower, clock: Callable[[], float] = time.monotonic) -> None:
        """Come back when the program has ended, be it on its own or by us."""
        pause = _FIRST_PAUSE_SECONDS
        self._waiting_since = clock()
        while not follower.ended.wait(pause):
            now = clock()
            if self.since is None and (self._meter.started or follower.begun_at is not None):
                self.since = now if follower.begun_at is None else min(now, follower.begun_at)
                self._meter.begun()
            pause = self._step(now, self._meter.look(self.wall_seconds(now)))
        if self.since is None:
            self.since = follower.begun_at
        self._meter.read(self.wall_seconds(self.ended_at(follower, clock())))

    def ended_at(self, follower: Follower, now: float) -> float:
        """The monotonic time of the program's end.

        Of a program that we ended, the time at which none of its processes was left: the engine may need long after
        that to work off what it had printed, line by line.
        """
        ended = follower.program_ended_at(now)
        return ended if self._gone_at is None else min(ended, self._gone_at)

    def wall_seconds(self, now: float) -> float:
        """Seconds since the program began; 0 before."""
        return 0.0 if self.since is None else max(now - self.since, 0.0)

    def _step(self, now: float, used: GroupUsage) -> float:
        """Act if it is time to, and say how long to wait for the next look."""
        self._check_limits(now, used)
        self._check_stored(now)
        if self._stop.requested:
            self._end(now)
            return _KILL_PAUSE_SECONDS
        wall = self.wall_seconds(now)
        if self.since is None or (not self._meter.started and wall < _STARTING_SECONDS):
            waited = (now - self._waiting_since) * _STARTING_SHARE
            return min(max(waited, _LEAST_PAUSE_SECONDS), _STARTING_MOST_SECONDS)
        left = _MOST_PAUSE_SECONDS
        if self._limits.time is not None:
            left = min(left, self._limits.time - wall)
        if self._limits.cpu_time is not None:
            left = min(left, (self._limits.cpu_time - used.cpu_seconds) / _CORES)
        return max(left, _LEAST_PAUSE_SECONDS)

    def _check_limits(self, now: float, used: GroupUsage) -> None:
        limits, wall = self._limits, self.wall_seconds(now)
        if limits.time is not None and self.since is not None and wall >= limits.time:
            self._stop.request(StopCause.TIME_LIMIT, f"it ran for {human_seconds(wall)}")
        elif limits.cpu_time is not None and used.cpu_seconds >= limits.cpu_time:
            self._stop.request(StopCause.CPU_TIME_LIMIT, f"it used {human_seconds(used.cpu_seconds)} of processor time")

    def _check_stored(self, now: float) -> None:
        if self.stored is None or self.since is None or self._stop.requested or now < self._stored_at:
            return
        if why := self.stored():
            self._stop.request(StopCause.STORAGE_LIMIT, why)
        # Where there is much to look at it takes long: a twentieth of a processor is enough for it.
        pause = (time.monotonic() - now) * _STORED_SHARE
        self._stored_at = now + min(max(pause, _STORED_PAUSE_SECONDS), _STORED_MOST_SECONDS)

    def _end(self, now: float) -> None:
        """A cancelled program is asked first; one over its limits, or whose lease is lost, is ended at once.

        Called again and again until it is gone: it may not even have started when the wish came.
        """
        if self._asked_at is None:
            self._asked_at = now
            if self._stop.cause is StopCause.CANCELLED:
                self._signal("SIGTERM")
        if self._stop.cause is StopCause.CANCELLED and now - self._asked_at < GRACE_SECONDS:
            self.acted = True
            return
        self.acted = True
        if self._killed_at is None:
            self._killed_at = now
        elif self._gone_at is None and self._meter.empty():
            self._gone_at = now
        if not self._meter.kill() or now - self._killed_at > _INSIST_SECONDS:
            self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        """When the engine does not answer, the follower finds out as well; here the group's own kill must do."""
        try:
            self._engine.kill(self._container, name)
        except (EngineError, EngineGone):
            return
