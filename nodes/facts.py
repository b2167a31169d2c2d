"""What a node says of itself when it joins: tags, capacity, the limits that it can hold tasks to."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from nodes.config import NodeConfig
from nodes.runtimes import Runtime
from nodes.workspace import WorkspaceKind
from tasks.order import Capacity, Facts

# Left to the system, the engine and the agent.
MEMORY_SHARE = 0.9
PIDS_SHARE = 0.5
RESERVE_BYTES = 1024**3
RESERVE_SHARE = 0.05
# Starting and ending a container is mostly waiting: twice as many attempts as cores keep the cores busy.
SLOTS_PER_CORE = 2

_VENDORS = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}
# Words of a model's name that say nothing, as kolejka leaves them out: tags written for it go on to work.
_NOISE = re.compile(
    r"[0-9.+-]*ghz.*|mobile|extreme|-|cpu|apu|gen|solo|dual|duo|triple|quad|eight|intel.*|amd.*|core.*"
    r"|(dual|triple|quad|eight)-?core.*"
)
_GPU_NOISE = re.compile(r"nvidia|[0-9]+[kmgt]b.*")
_NVIDIA_SECONDS = 10
_KIB, _MIB = 1024, 1024**2
# What the kernel says for "no limit" on cgroup v1 is just below 2^63.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Processor:
    """The machine's processors, as /proc/cpuinfo has them."""

    vendor: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics card."""

    name: str
    memory_bytes: int


def gather(
    config: NodeConfig,
    runtime: Runtime,
    kind: WorkspaceKind,
    images: Callable[[], tuple[str, ...]] = tuple,
    can_fetch: Callable[[], bool] = lambda: True,
    details: Callable[[], Mapping[str, str]] = dict,
) -> Facts:
    """All facts of a node; ``images`` tells which are there, ``can_fetch`` whether a registry has others for it.

    ``details`` are told beside those of the machine.

    Raises NodeFault when the runtime does not answer.
    """
    able = runtime.probe()
    cores = sorted(os.sched_getaffinity(0))
    processor, gpus = read_processor(Path("/proc/cpuinfo").read_text(errors="replace")), read_gpus()
    capacity = _capacity(config, kind, cpus=float(len(cores)), gpus=gpus)
    return Facts(
        tags=tuple(dict.fromkeys((*machine_tags(processor, len(cores), gpus), *able.tags, *config.tags))),
        capacity=capacity,
        enforces=tuple(sorted(able.enforces | kind.enforces | ({"gpus", "gpu_memory"} if gpus else set()))),
        runtimes=(able.runtime,),
        images=images(),
        registry=config.pull and can_fetch(),
        version=own_version(),
        details={
            **able.details,
            "kernel": platform.release(),
            "machine": platform.machine(),
            "processor": processor.model,
            "python": platform.python_version(),
            "workspace": str(kind),
            **details(),
        },
    )


def machine_tags(processor: Processor, cores: int, gpus: tuple[Gpu, ...]) -> tuple[str, ...]:
    """The tags that every node has, in kolejka's words: ``hostname:``, ``kernel:``, ``cpu:``, ``cpus:``, ``gpu:``."""
    tags = [f"hostname:{platform.node()}", f"kernel:{platform.release()}", f"cpus:{cores}"]
    tags += [f"cpu:{_VENDORS[processor.vendor]}"] if processor.vendor in _VENDORS else []
    tags += [f"cpu:{name}"] if (name := processor_name(processor.model)) else []
    tags += ["gpu:nvidia"] if gpus else []
    tags += [f"gpu:{gpu_name(gpu.name)}" for gpu in gpus]
    return tuple(dict.fromkeys(tags))


def processor_name(model: str) -> str:
    """``Intel(R) Xeon(R) CPU E3-1270 v5 @ 3.60GHz`` is ``xeon e3-1270 v5``."""
    words = re.sub(r"\([^()]*\)", "", model.lower().partition("@")[0]).split()
    return " ".join(word for word in words if not _NOISE.fullmatch(word))


def gpu_name(model: str) -> str:
    """``NVIDIA GeForce GTX 1060 6GB`` is ``geforce gtx 1060``."""
    return " ".join(word for word in model.lower().split() if not _GPU_NOISE.fullmatch(word))


def read_processor(cpuinfo: str) -> Processor:
    """The last processor of /proc/cpuinfo; all of a machine are alike, or nothing can be said in one tag."""
    found = dict(re.findall(r"^(vendor_id|model name)\s*: *(.*?)\s*$", cpuinfo, re.MULTILINE))
    return Processor(vendor=found.get("vendor_id", ""), model=found.get("model name", ""))


@cache
def read_gpus() -> tuple[Gpu, ...]:
    """The cards that ``nvidia-smi`` tells of; asked once."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_NVIDIA_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(answer.stdout)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Lines ``NVIDIA A100-SXM4-40GB, 40960`` (MiB)."""
    rows = (line.rpartition(",") for line in text.splitlines() if line.strip())
    return tuple(Gpu(name.strip(), int(memory) * _MIB) for name, _, memory in rows if memory.strip().isdecimal())


def read_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    return {name: int(size) * _KIB for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def own_version() -> str:
    """The version of this software; empty when it is run from a folder that was never installed."""
    try:
        return metadata.version("celery-grid")
    except metadata.PackageNotFoundError:
        return ""


def _capacity(config: NodeConfig, kind: WorkspaceKind, *, cpus: float, gpus: tuple[Gpu, ...]) -> Capacity:
    meminfo = read_meminfo(Path("/proc/meminfo").read_text())
    memory = int(min((meminfo["MemTotal"], *_group_limits())) * MEMORY_SHARE)
    cpus = min(cpus, config.cpus or cpus)
    memory = min(memory, config.memory_bytes or memory)
    return Capacity(
        cpus=cpus,
        memory=memory,
        swap=meminfo.get("SwapTotal", 0),
        pids=int(min(_number("/proc/sys/kernel/pid_max"), _number("/proc/sys/kernel/threads-max")) * PIDS_SHARE),
        # A workspace in memory takes from the memory, and may take half of it.
        storage=memory // 2 if kind is WorkspaceKind.TMPFS else _storage(config.directory),
        gpus=len(gpus),
        gpu_memory=min((gpu.memory_bytes for gpu in gpus), default=0),
        slots=config.slots or max(round(cpus * SLOTS_PER_CORE), 1),
    )


def _storage(directory: Path) -> int:
    disk = shutil.disk_usage(directory)
    return max(disk.free - max(RESERVE_BYTES, int(disk.total * RESERVE_SHARE)), 0)


def _group_limits() -> tuple[int, ...]:
    """Memory limits on the machine as a whole, when it is a container itself."""
    found = (_number(f"/sys/fs/cgroup/{name}") for name in ("memory.max", "memory/memory.limit_in_bytes"))
    return tuple(limit for limit in found if limit < _NO_LIMIT)


def _number(path: str) -> int:
    """The number in a file of the kernel; a very large one when there is none."""
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return _NO_LIMIT
    return int(text) if text.isdecimal() else _NO_LIMIT
