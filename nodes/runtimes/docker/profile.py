"""The profiles ``standard`` and ``judge``: all about an attempt's container, by a pure function of the job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from nodes.runtimes import Job
from nodes.runtimes.docker.seccomp import profile as seccomp_profile
from tasks.errors import NodeFault
from tasks.profiles import Profile

WORKSPACE = "/task"
OBSERVER = "/var/run/kolejka/observer/socket"
"""Where programs that were written for kolejka look for its observer."""
JUDGE_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SYS_NICE")
"""What root has inside of the profile ``judge``: to run others' programs as users of their own, and to end them."""
NAME_PREFIX = "grid-"
LABEL_TASK, LABEL_ATTEMPT, LABEL_NODE, LABEL_OWNER = "grid.task", "grid.attempt", "grid.node", "grid.owner"
NONE_NETWORK, DEFAULT_NETWORK = "none", "bridge"

_MIB = 1 << 20
_PRIVATE = {"Propagation": "rprivate", "NonRecursive": True}
_TMP = "/tmp"  # noqa: S108 - the container's own
_TMP_OPTIONS = f"rw,nosuid,nodev,exec,size={64 * _MIB},nr_inodes=16384,mode=1777"
# Folders that an image declares as volumes would be folders on the engine's disk, without limits: small ones in
# memory stand in.
_VOLUME_OPTIONS = f"rw,nosuid,nodev,noexec,size={16 * _MIB},nr_inodes=4096,mode=1777"
_SHM_BYTES = 64 * _MIB
_OPEN_FILES = 8192
# A file may be somewhat larger than the whole folder: a program that fills it is told "no space left", which can be
# seen afterwards, and not ended by SIGXFSZ, of which only its parent learns. Sparse files still find their end here.
_ROOM_ABOVE_BYTES = 4 * 1024**2
_LOG_LEAST_BYTES = 16 * _MIB
_LOG_MOST_BYTES = 1024 * _MIB
_INIT_PROCESSES = 1
_NANO = 1_000_000_000
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Offer:
    """What the engine at hand can do, and what the image brings: decides details of the profile.

    ``cgroup_parent`` is the parent group of the attempt ("" for none). ``volumes`` are folders that the image declares.
    """

    cgroup_parent: str = ""
    has_init: bool = True
    limits_swap: bool = True
    has_local_log: bool = True
    volumes: tuple[str, ...] = ()


def container_name(attempt: str) -> str:
    """The name of an attempt's container: there cannot be two of one name, so it serves as a lock."""
    return f"{NAME_PREFIX}{attempt}"


def labels(job: Job) -> dict[str, str]:
    """By these a container is found again, and known to be ours."""
    return {LABEL_TASK: job.task, LABEL_ATTEMPT: job.attempt, LABEL_NODE: job.node, LABEL_OWNER: job.node}


def container(job: Job, offer: Offer) -> dict[str, Any]:
    """The body of ``ContainerCreate``. Raises NodeFault when the job cannot be put into it."""
    config: dict[str, Any] = {
        "Image": job.image,
        "User": f"{job.uid}:{job.gid}",
        "WorkingDir": WORKSPACE,
        "Hostname": "grid",
        "Env": _environment({"HOME": WORKSPACE, **job.environment}),
        "Labels": labels(job),
        # The program's output, both streams apart; input only when there is some, and once.
        "Tty": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "AttachStdin": job.stdin is not None,
        "OpenStdin": job.stdin is not None,
        "StdinOnce": job.stdin is not None,
        # An image's health check would be further processes under the task's limits.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host_config(job, offer),
    }
    if job.args:
        # The image's entry point does not run: args are the whole command, as they are.
        config |= {"Entrypoint": [job.args[0]], "Cmd": list(job.args[1:])}
    return config


def host_config(job: Job, offer: Offer) -> dict[str, Any]:
    """The part of the container that protects the machine."""
    judge = job.profile is Profile.JUDGE
    return {
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(JUDGE_CAPABILITIES) if judge else None,
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp_profile(judge=judge)}"],
        "ReadonlyRootfs": not judge,
        "Mounts": [_workspace(job), *_observer(job)],
        "Tmpfs": {_TMP: _TMP_OPTIONS, **dict.fromkeys(_volumes(offer), _VOLUME_OPTIONS)},
        "ShmSize": _SHM_BYTES,
        "IpcMode": "private",
        "NetworkMode": DEFAULT_NETWORK if job.limits.network else NONE_NETWORK,
        "CgroupParent": offer.cgroup_parent,
        "OomScoreAdj": 1000,
        "Init": offer.has_init,
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": _log(job, offer),
        "Ulimits": _ulimits(job),
        **_resources(job, offer),
    }


def _resources(job: Job, offer: Offer) -> dict[str, Any]:
    limits = job.limits
    found: dict[str, Any] = {}
    if limits.memory is not None:
        found["Memory"] = limits.memory
        if offer.limits_swap:  # of both together; without it a task could swap as much again
            found["MemorySwap"] = limits.memory + (limits.swap or 0)
    if limits.pids is not None:
        found["PidsLimit"] = limits.pids + (_INIT_PROCESSES if offer.has_init else 0)
    if job.cores:
        found["CpusetCpus"] = ",".join(map(str, job.cores))
    elif limits.cpus is not None:
        found["NanoCpus"] = round(limits.cpus * _NANO)
    if limits.gpus:
        found["DeviceRequests"] = [{"Driver": "nvidia", "Count": limits.gpus, "Capabilities": [["gpu"]]}]
    return found


def _workspace(job: Job) -> dict[str, Any]:
    """Its nosuid and nodev are those of the workspace's own mount on the host: a bind mount keeps them."""
    return {
        "Type": "bind",
        "Source": str(job.workspace),
        "Target": WORKSPACE,
        "BindOptions": _PRIVATE,
    }


def _observer(job: Job) -> list[dict[str, Any]]:
    if job.profile is not Profile.JUDGE or job.observer is None:
        return []
    source, target = job.observer, PurePosixPath(OBSERVER)
    if source.name == target.name:
        # The folder, because an observer that is started again makes a new socket.
        source, target = source.parent, target.parent
    return [
        {"Type": "bind", "Source": str(source), "Target": str(target), "ReadOnly": True, "BindOptions": _PRIVATE},
    ]


def _volumes(offer: Offer) -> list[str]:
    inside = (f"{WORKSPACE}/", f"{_TMP}/")
    return [path for path in offer.volumes if path.rstrip("/") and not f"{path.rstrip('/')}/".startswith(inside)]


def _log(job: Job, offer: Offer) -> dict[str, Any]:
    """The engine's own log is read only after a restart of ours.

    The driver ``local`` keeps bytes as they are; ``json-file`` replaces what is not UTF-8. The size leaves room for the
    cost of short lines: four times what is kept. The engine spends 1 to 2 us per line on it, and the program waits
    for that: 50 MB take 40 s in lines of 2 bytes, 4 s in lines of 40, and 2 s without a log (its mode "non-blocking" is
    no faster). That is the price of losing nothing when an agent dies.
    """
    wanted = 4 * job.limits.output if job.limits.output is not None else _LOG_MOST_BYTES
    size = str(min(max(wanted, _LOG_LEAST_BYTES), _LOG_MOST_BYTES))
    if offer.has_local_log:
        return {"Type": "local", "Config": {"max-size": size, "max-file": "1", "compress": "false"}}
    return {"Type": "json-file", "Config": {"max-size": size, "max-file": "1"}}


def _ulimits(job: Job) -> list[dict[str, Any]]:
    found = [_ulimit("core", 0), _ulimit("nofile", _OPEN_FILES)]
    if job.limits.storage is not None:
        found.append(_ulimit("fsize", job.limits.storage + job.limits.storage // 32 + _ROOM_ABOVE_BYTES))
    return found


def _ulimit(name: str, value: int) -> dict[str, Any]:
    return {"Name": name, "Soft": value, "Hard": value}


def _environment(variables: Mapping[str, str]) -> list[str]:
    """Raises NodeFault for names and values that would reach the program as something else than they are."""
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise NodeFault("runtime_error", f'"{name}" cannot be set in the environment of a program')
    return [f"{name}={value}" for name, value in variables.items()]
