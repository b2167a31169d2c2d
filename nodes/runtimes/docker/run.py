"""One job in the engine, from its container's creation (or adoption) to its exit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nodes.runtimes import Exit, Job, Stop
from nodes.runtimes.docker import failures, profile
from nodes.runtimes.docker.ability import MINE, Ability
from nodes.runtimes.docker.capture import Capture
from nodes.runtimes.docker.clock import boot_seconds, engine_seconds, process_started_at
from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.errors import EngineError, EngineGone, NameTaken, NotThere
from nodes.runtimes.docker.follow import Follower, feed, open_input
from nodes.runtimes.docker.layer import Layer, workspace_bytes
from nodes.runtimes.docker.marks import Marks
from nodes.runtimes.docker.meter import Meter
from nodes.runtimes.docker.watch import Watch
from observer.cgroups import Group
from tasks.errors import NodeFault
from tasks.outcome import Usage
from tasks.profiles import Profile
from tasks.states import StopCause

ENGINE_PATIENCE_SECONDS = 30.0
_ENGINE_PAUSE_SECONDS = 0.25
_KILLED, _TERMINATED, _UNKNOWN = 137, 143, 255
# What programs are left with when an engine stops, or comes up after the machine went down.
_BY_ENGINE = (_KILLED, _TERMINATED, _UNKNOWN)
_NEAR_LIMIT = 0.95

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job runs: the engine, what it can do, and the group of the attempt (None where groups cannot be had)."""

    engine: Engine
    ability: Ability
    group: Group | None
    volumes: tuple[str, ...] = ()


class Run:
    """Runs one job. ``container`` is the id of its container as soon as there is one."""

    def __init__(self, place: Place, job: Job, stop: Stop) -> None:
        self.container = ""
        self._engine, self._ability, self._group = place.engine, place.ability, place.group
        self._volumes = place.volumes
        self._job, self._stop = job, stop
        self._marks = Marks.of(job)
        self._engine_started_at = place.engine.started_at()
        self._meter = Meter(
            place.group, spare_processes=1 if place.ability.has_init else 0, forgets=place.ability.cgroup_version < 2
        )

    def to_end(self) -> Exit:
        """Run or adopt it. Raises NodeFault, EngineError, EngineGone."""
        if self._marks.started:  # by a former life of ours
            there = self._inspect()
            if there is None:
                raise NodeFault("engine_restarted", "the container of the attempt is gone")
            if not _unstarted(there):
                return self._adopt(there)
            self._engine.remove(there["Id"])
        if self._stop.requested:
            # A former life of ours may have created the container and died before it could start it.
            self.container = profile.container_name(self._job.attempt)
            return self._never_started()
        there = self._create()
        return self._begin() if there is None else self._adopt(there)

    # ----------------------------------------------------------------------------------------------- a new container

    def _create(self) -> dict[str, Any] | None:
        """Create the container; if there is one of the attempt that was started, return that instead."""
        parent = self._group.parent if self._group else ""
        config = profile.container(self._job, self._ability.offer(parent, self._volumes))
        name = profile.container_name(self._job.attempt)
        try:
            self.container = self._engine.create(name, config)
        except NameTaken:
            there = self._inspect()
            if there is not None and not _unstarted(there):
                return there
            if there is not None:
                self._engine.remove(there["Id"])
            self.container = self._engine.create(name, config)
        return None

    def _begin(self) -> Exit:
        job = self._job
        if self._stop.requested:
            return self._never_started()
        source = open_input(job.stdin) if job.stdin is not None else None
        capture = Capture(job.stdout, job.stderr, job.limits.output)
        stream = self._engine.attach(self.container, stdin=job.stdin is not None)
        try:
            self._marks.set_started()
            if source is not None:
                feed(stream, source, self._marks)
            follower = Follower(self._engine, self.container, capture)
            follower.start(stream)
            return self._watch(follower, capture, since=None)
        finally:
            stream.close()
            capture.close()

    def _never_started(self) -> Exit:
        return Exit(exit_code=None, usage=Usage(), stopped=self._stop.cause, stop_reason=self._stop.reason)

    # ------------------------------------------------------------------------------------------------------ adoption

    def _inspect(self) -> dict[str, Any] | None:
        """The container of the attempt's name; None when there is none. Raises NodeFault when it is not ours."""
        try:
            there = self._engine.inspect(profile.container_name(self._job.attempt))
        except NotThere:
            return None
        labels = there["Config"].get("Labels") or {}
        if any(labels.get(name) != value for name, value in profile.labels(self._job).items()):
            raise NodeFault("runtime_error", f"another container is in the way: {there['Name'].lstrip('/')}")
        return there

    def _adopt(self, there: dict[str, Any]) -> Exit:
        """Go along with a container that was started before: its output is taken from the engine's log."""
        self.container = there["Id"]
        self._marks.set_started()
        if self._job.stdin is not None and not self._marks.fed:
            raise NodeFault("runtime_error", "the node was interrupted while it sent the program's input")
        state = there["State"]
        began = engine_seconds(state["StartedAt"])
        if not state["Running"] and state["ExitCode"] in _BY_ENGINE and self._engine_is_younger(began):
            raise NodeFault("engine_restarted", "the engine ended the program when it was restarted")
        _log.info("attempt %s goes on in container %s (%s)", self._job.attempt, self.container[:12], state["Status"])
        capture = Capture(self._job.stdout, self._job.stderr, self._job.limits.output, again=True)
        try:
            follower = Follower(self._engine, self.container, capture)
            follower.join_in()
            wall = None if state["Running"] else _span(began, engine_seconds(state["FinishedAt"]))
            return self._watch(follower, capture, since=time.monotonic() - _age_seconds(state), wall_seconds=wall)
        finally:
            capture.close()

    def _engine_is_younger(self, began: float | None) -> bool:
        """True when the engine started after the container did, and did not let containers live on."""
        if self._ability.live_restore or self._engine_started_at is None or began is None:
            return False
        return began < time.time() - (boot_seconds() - self._engine_started_at)

    # ------------------------------------------------------------------------------------------------------- the end

    def _watch(
        self, follower: Follower, capture: Capture, *, since: float | None, wall_seconds: float | None = None
    ) -> Exit:
        watch = Watch(self._engine, self.container, self._meter, self._job.limits, self._stop)
        watch.since = since
        watch.stored = self._stored()
        watch.until_end(follower)
        if wall_seconds is None:
            wall_seconds = watch.wall_seconds(watch.ended_at(follower, time.monotonic()))
        usage = self._meter.usage(wall_seconds)
        if follower.exit_code is None:
            return self._failed(follower.failure, usage, acted=watch.acted)
        oom_kills = self._oom_kills(follower.exit_code, usage)
        if not (watch.acted or oom_kills) and follower.exit_code in _BY_ENGINE and self._engine_restarted():
            raise NodeFault("engine_restarted", "the engine ended the program when it was stopped or restarted")
        program = failures.by_init(follower.exit_code, self._job.stderr) if self._ability.has_init else None
        return Exit(
            exit_code=program[0] if program else follower.exit_code,
            start_error=program[1] if program else "",
            storage_full=bool(watch.stored and not watch.acted and watch.stored()),
            usage=usage,
            stopped=self._stop.cause if watch.acted else None,
            stop_reason=self._stop.reason if watch.acted else "",
            oom_kills=oom_kills,
            pids_refused=self._meter.last.pids_refused or 0,
            output_bytes=capture.total_bytes,
            output_cut_bytes=capture.cut_bytes,
            not_enforced=self._not_enforced(),
        )

    def _stored(self) -> Callable[[], str] | None:
        """What asks whether the program stored too much outside of its workspace; None where it cannot store there."""
        job = self._job
        if job.profile is not Profile.JUDGE or (job.limits.storage is None and job.limits.files is None):
            return None
        layer = Layer(self._engine, self.container)

        def look() -> str:
            try:
                return layer.written(self._meter.processes()).beyond(job.limits, workspace_bytes(job.workspace))
            except (EngineError, EngineGone):  # the follower finds out as well
                return ""

        return look

    def _failed(self, failure: object, usage: Usage, *, acted: bool) -> Exit:
        """The container did not start, or its end could not be seen."""
        if isinstance(failure, EngineGone):
            return self._after_outage()
        if isinstance(failure, NodeFault):
            raise failure
        message = failure.message if isinstance(failure, EngineError) else str(failure or "the follower broke")
        if acted:
            return Exit(exit_code=_KILLED, usage=usage, stopped=self._stop.cause, stop_reason=self._stop.reason)
        if failures.is_out_of_memory(message):
            return Exit(exit_code=_KILLED, usage=usage, oom_kills=1)
        program = failures.by_engine(message)
        if program is None:
            raise NodeFault("runtime_error", message)
        return Exit(exit_code=program[0], start_error=program[1], usage=usage)

    def _after_outage(self) -> Exit:
        """The connection was cut. The program may have outlived that, unless the engine was restarted."""
        deadline = time.monotonic() + ENGINE_PATIENCE_SECONDS
        while not self._engine.answers():
            if time.monotonic() > deadline or self._stop.cause is StopCause.LEASE_LOST:
                raise NodeFault("engine_restarted", "the engine does not answer any more")
            time.sleep(_ENGINE_PAUSE_SECONDS)
        there = self._inspect()
        if there is None or _unstarted(there):
            raise NodeFault("engine_restarted", "the engine was interrupted before the program began")
        if self._engine_restarted() and not there["State"]["Running"]:
            # With live-restore its exit code is known, but Docker (20.10) sometimes loses what it printed at its end.
            raise NodeFault("engine_restarted", "the program ended while the engine was restarted")
        self._engine_started_at = self._engine.started_at()
        return self._adopt(there)

    def _engine_restarted(self) -> bool:
        return not self._engine.answers() or self._engine.started_at() != self._engine_started_at

    def _oom_kills(self, exit_code: int, usage: Usage) -> int:
        """By the group's counter, or by the engine's word where the counter may have vanished (cgroup v1)."""
        counted, limit, peak = self._meter.last.oom_kills, self._job.limits.memory, usage.memory_peak_bytes
        if counted or (counted is not None and not self._meter.forgets):
            return counted
        near = limit is not None and (peak is None or peak >= limit * _NEAR_LIMIT)
        if near or exit_code == _KILLED:
            try:
                return 1 if self._engine.inspect(self.container)["State"]["OOMKilled"] else 0
            except EngineGone:  # most likely it was the engine that ended the program, with itself
                return 0
        return 0

    def _not_enforced(self) -> tuple[str, ...]:
        asked = self._job.limits.model_dump(exclude_none=True)
        return tuple(sorted(name for name in asked if name in MINE and name not in self._ability.limits))


def _unstarted(there: dict[str, Any]) -> bool:
    return engine_seconds(there["State"]["StartedAt"]) is None


def _span(began: float | None, ended: float | None) -> float:
    return max((ended or 0.0) - (began or 0.0), 0.0)


def _age_seconds(state: dict[str, Any]) -> float:
    """How long the program has been running, by clocks that nobody can set where the process can be seen."""
    process = process_started_at(int(state["Pid"])) if state["Pid"] else None
    if process is not None:
        return max(boot_seconds() - process, 0.0)
    return max(time.time() - (engine_seconds(state["StartedAt"]) or time.time()), 0.0)
