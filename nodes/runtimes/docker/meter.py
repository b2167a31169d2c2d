"""What a task uses, as it goes: readings of its group, thinned out to a series, summed up at the end."""

from __future__ import annotations

from observer.cgroups import Group, GroupUsage
from tasks.outcome import MOST_POINTS, Usage, UsagePoint

_POINT_SECONDS = 1.0


class Meter:
    """Reads the group of one attempt; ``last`` is the last reading. ``spare_processes`` are docker-init's.

    ``forgets`` says that some counters vanish with the container, so that 0 of them proves nothing (cgroup v1).
    """

    def __init__(self, group: Group | None, *, spare_processes: int, forgets: bool) -> None:
        self.forgets = forgets
        self._group = group
        self._spare = spare_processes
        self.last = GroupUsage()
        self._series: list[UsagePoint] = []
        self._every_seconds = _POINT_SECONDS
        self._next_seconds = _POINT_SECONDS

    @property
    def started(self) -> bool:
        """True when the task's own program was seen; always False where there is no group to look at."""
        return self._group is not None and self._group.started

    def begun(self) -> None:
        """Tell that the engine has begun the program."""
        if self._group is not None:
            self._group.begun()

    def look(self, wall_seconds: float) -> GroupUsage:
        """Take a reading if there can be anything new to read."""
        if self._group is None or (wall_seconds < self._next_seconds and self._group.quiet()):
            return self.last
        return self.read(wall_seconds)

    def read(self, wall_seconds: float) -> GroupUsage:
        """Take a reading, ``wall_seconds`` after the start of the program."""
        if self._group is None:
            return self.last
        self.last = now = self._group.read()
        if wall_seconds >= self._next_seconds:
            self._add(
                UsagePoint(
                    t=round(wall_seconds, 3),
                    memory_bytes=now.memory_bytes or 0,
                    cpu_seconds=round(now.cpu_seconds, 6),
                    pids=self._own(now.pids) or 0,
                    io_read_bytes=now.io_read_bytes,
                    io_write_bytes=now.io_write_bytes,
                )
            )
            self._next_seconds = wall_seconds - wall_seconds % self._every_seconds + self._every_seconds
        return now

    def kill(self) -> bool:
        """End everything in the group at once; False where there is no group."""
        if self._group is None:
            return False
        self._group.kill()
        return True

    def processes(self) -> tuple[int, ...]:
        """The processes in the group; none where there is no group."""
        return () if self._group is None else self._group.processes()

    def empty(self) -> bool:
        """True when no process is left in the group; False where there is no group."""
        return self._group is not None and self._group.empty()

    def usage(self, wall_seconds: float) -> Usage:
        """All of it, by the last reading."""
        last = self.last
        return Usage(
            wall_seconds=round(wall_seconds, 6),
            cpu_seconds=last.cpu_seconds,
            cpu_user_seconds=last.cpu_user_seconds,
            cpu_system_seconds=last.cpu_system_seconds,
            memory_peak_bytes=last.memory_peak_bytes,
            pids_peak=self._own(last.pids_peak),
            io_read_bytes=last.io_read_bytes,
            io_write_bytes=last.io_write_bytes,
            series=tuple(self._series),
        )

    def _own(self, processes: int | None) -> int | None:
        return None if processes is None else max(processes - self._spare, min(processes, 1))

    def _add(self, point: UsagePoint) -> None:
        """A long task keeps fewer points, further apart: a result must not grow with the time it took."""
        self._series.append(point)
        if len(self._series) >= MOST_POINTS:
            del self._series[::2]
            self._every_seconds *= 2
