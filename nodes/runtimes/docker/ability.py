"""What an engine says of itself, as far as it decides how containers are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodes.runtimes.docker.profile import Offer

MINE = frozenset({"memory", "swap", "cpus", "pids", "time", "cpu_time", "output", "network"})
"""The limits that are the runtime's to enforce; those of the workspace and of graphics cards are others'."""

_ALWAYS = frozenset({"time", "output", "network"})
_NO_INIT = "N/A"


@dataclass(frozen=True, slots=True)
class Ability:
    """The engine's ``info`` in our words; ``limits`` are the names of limits that it holds containers to."""

    limits: frozenset[str]
    has_init: bool
    limits_swap: bool
    has_local_log: bool
    systemd: bool
    live_restore: bool
    cgroup_version: int
    details: Mapping[str, str]

    @staticmethod
    def of(info: Mapping[str, Any], *, counts_cpu: bool) -> Ability:
        """``counts_cpu``: the processor time of an attempt can be read."""
        limits_swap = bool(info.get("SwapLimit"))
        offered = {
            "memory": info.get("MemoryLimit"),
            # Without swap on the machine nobody can use any.
            "swap": info.get("MemoryLimit") and (limits_swap or not _has_swap()),
            "cpus": info.get("CpuCfsQuota") or info.get("CPUCfsQuota"),
            "pids": info.get("PidsLimit"),
            "cpu_time": counts_cpu,
        }
        return Ability(
            limits=_ALWAYS | {name for name, there in offered.items() if there},
            has_init=bool(info.get("InitBinary")) and info.get("InitCommit", {}).get("ID") != _NO_INIT,
            limits_swap=limits_swap,
            has_local_log="local" in (info.get("Plugins", {}).get("Log") or ()),
            systemd=info.get("CgroupDriver") == "systemd",
            live_restore=bool(info.get("LiveRestoreEnabled")),
            cgroup_version=int(info.get("CgroupVersion") or 1),
            details={
                "engine": str(info.get("ServerVersion", "")),
                "cgroup_version": str(info.get("CgroupVersion", "1")),
                "cgroup_driver": str(info.get("CgroupDriver", "")),
                "storage_driver": str(info.get("Driver", "")),
                "engine_folder": str(info.get("DockerRootDir", "")),
            },
        )

    def offer(self, cgroup_parent: str, volumes: tuple[str, ...]) -> Offer:
        """What it means for one container."""
        return Offer(
            cgroup_parent=cgroup_parent,
            has_init=self.has_init,
            limits_swap=self.limits_swap,
            has_local_log=self.has_local_log,
            volumes=volumes,
        )


def _has_swap() -> bool:
    try:
        return len(Path("/proc/swaps").read_text().splitlines()) > 1
    except OSError:
        return False
