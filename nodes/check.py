"""What a machine is good for as a node, and what is wrong with it: a list of small checks, each with a hint."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nodes import workspace
from nodes.config import IMAGE_RECORD
from nodes.imagecache import read_record, shown
from nodes.runtimes.docker.ability import Ability
from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.errors import EngineError, EngineGone
from nodes.workspace import WorkspaceKind
from observer.cgroups import Layout, detect
from tasks.units import human_size
from tasks.views import Level

OLDEST_ENGINE = (20, 10)
OLDEST_API = (1, 41)
LEAST_FREE_BYTES = 2 * 1024**3
FEW_FREE_BYTES = 10 * 1024**3
LEAST_FREE_INODES = 50_000
MOST_OFFSET_SECONDS = 5.0
_SERVER_SECONDS = 5
_OTHERS = stat.S_IRWXO


_BADNESS = {Level.PASS: 0, Level.WARN: 1, Level.FAIL: 2}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found, and what to do about it if it is not right."""

    name: str
    level: Level
    detail: str
    hint: str = ""


def run_checks(directory: Path, server: str | None = None, address: str | None = None) -> list[Check]:
    """Look at everything. ``directory`` is the node's, ``address`` the engine's; nothing but the folder is made."""
    engine = Engine(address)
    try:
        info, version = engine.info(), engine.version()
    except (EngineError, EngineGone) as error:
        found = [_engine_silent(str(error))]
    else:
        found = [*check_engine(info, version), *check_confinement(info), *check_engine_settings(info)]
        found += check_folders(directory, info)
    finally:
        engine.close()
    found += [*check_groups(detect()), *check_socket(address), check_workspace(directory), *check_machine()]
    if server:
        found.append(check_clock(server, time.time))
    return found


def worst(checks: Iterable[Check]) -> Level:
    """The worst level that occurs."""
    return max((check.level for check in checks), key=_BADNESS.__getitem__, default=Level.PASS)


def as_json(checks: Iterable[Check]) -> str:
    """The checks as JSON: ``{"level": ..., "checks": [{"name", "level", "detail", "hint"}]}``."""
    listed = list(checks)
    return json.dumps({"level": worst(listed), "checks": [asdict(check) for check in listed]}, indent=2)


def check_engine(info: Mapping[str, Any], version: Mapping[str, Any]) -> Iterator[Check]:
    """Versions, and what the engine is able to do; ``info`` and ``version`` are its own words."""
    text, api = str(version.get("Version", "?")), str(version.get("ApiVersion", "0"))
    fits = _numbers(text) >= OLDEST_ENGINE and _numbers(api) >= OLDEST_API
    yield _that(fits, "engine", f"version {text}, API {api}", "install Docker Engine 20.10 or later", Level.FAIL)
    able = Ability.of(info, counts_cpu=True)
    missing = [name for name in ("memory", "cpus", "pids") if name not in able.limits]
    yield _that(
        not missing,
        "limits",
        f"the engine cannot limit {', '.join(missing)}" if missing else "memory, cpus and pids can be limited",
        "enable these control group controllers (kernel command line: cgroup_enable=memory)",
        Level.FAIL,
    )
    yield _that(
        "swap" in able.limits,
        "swap",
        "swap is accounted, or there is none" if "swap" in able.limits else "the machine swaps, and nobody counts it",
        "boot with swapaccount=1, or switch swap off",
    )
    yield _that(
        able.has_init,
        "docker-init",
        "found" if able.has_init else "the engine has none",
        "install docker-init (Debian: tini); without it programs run as process 1 and ignore most signals",
    )
    yield _that(
        able.live_restore,
        "live-restore",
        "on" if able.live_restore else "off: a restart of the engine ends the running tasks, which then run again",
        'put {"live-restore": true} into /etc/docker/daemon.json',
    )
    for warning in info.get("Warnings") or ():
        yield Check("engine-warning", Level.WARN, str(warning))


def check_confinement(info: Mapping[str, Any]) -> Iterator[Check]:
    """What stands between a task and the machine."""
    options = " ".join(info.get("SecurityOptions") or ())
    yield _that(
        "name=seccomp" in options,
        "seccomp",
        "on" if "name=seccomp" in options else "the engine cannot filter system calls",
        "use a kernel and an engine with seccomp",
        Level.FAIL,
    )
    lsm = next((name for name in ("apparmor", "selinux") if f"name={name}" in options), "")
    yield _that(
        bool(lsm), "lsm", lsm or "neither AppArmor nor SELinux", "enable AppArmor (Debian: the package apparmor)"
    )
    remapped = "name=userns" in options or "name=rootless" in options
    yield _that(
        True,
        "userns",
        "containers have users of their own" if remapped else "off; tasks never run as root, so this is not needed",
    )


def check_engine_settings(info: Mapping[str, Any]) -> Iterator[Check]:
    """Items of the CIS Docker Benchmark that an engine tells of itself."""
    insecure = [
        name
        for name, index in (info.get("RegistryConfig", {}).get("IndexConfigs") or {}).items()
        if not index.get("Secure", True) and not name.startswith(("127.", "localhost"))
    ]
    yield _that(
        not insecure,
        "registries",
        f"insecure: {', '.join(insecure)}" if insecure else "all over TLS",
        "give these registries certificates (CIS 2.5)",
    )
    yield _that(
        info.get("Driver") not in ("aufs", "vfs"),
        "storage-driver",
        str(info.get("Driver")),
        "use overlay2 (CIS 2.6): others are slow or abandoned",
    )
    yield _that(
        not info.get("ExperimentalBuild"),
        "experimental",
        "on" if info.get("ExperimentalBuild") else "off",
        "switch the engine's experimental features off (CIS 2.17)",
    )


def check_folders(directory: Path, info: Mapping[str, Any]) -> Iterator[Check]:
    """Room for attempts and for images."""
    yield from check_disk("disk", directory)
    root = Path(str(info.get("DockerRootDir") or "/nonexistent"))
    if root.is_dir():
        yield from check_disk("engine-disk", root)
    fetched = read_record(directory / IMAGE_RECORD)
    size = sum({one.id: one.size_bytes for one in fetched.values()}.values())
    yield Check("image-cache", Level.PASS, f"{shown(len(fetched), size, None)} fetched for tasks")


def check_disk(name: str, folder: Path) -> Iterator[Check]:
    """Bytes and inodes of the disk that a folder is on, or will be."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    disk = os.statvfs(there)
    free, inodes = disk.f_bavail * disk.f_frsize, disk.f_favail
    level = Level.FAIL if free < LEAST_FREE_BYTES else Level.WARN if free < FEW_FREE_BYTES else Level.PASS
    hint = "" if level is Level.PASS else "make room (docker image prune), or give the node another folder (--dir)"
    yield Check(name, level, f"{human_size(free)} free for {folder}", hint)
    if disk.f_files and inodes < LEAST_FREE_INODES:  # some file systems have no fixed number of inodes and say 0
        yield Check(f"{name}-inodes", Level.WARN, f"{inodes} files more on the disk of {folder}", "delete small files")


def check_groups(layout: Layout) -> Iterator[Check]:
    """Control groups: which version, what they measure, whether we may make some."""
    missing = {"cpu", "memory", "pids"} - layout.measures
    if missing:
        detail = f"version {layout.version}, without {', '.join(sorted(missing))}"
        yield Check(
            "cgroups", Level.FAIL, detail, "mount all controllers; in a container, mount the host's /sys/fs/cgroup"
        )
    else:
        yield Check("cgroups", Level.PASS, f"version {layout.version}: {', '.join(sorted(layout.measures))}")
    ours = os.geteuid() == 0 and all(os.access(root, os.W_OK) for root in layout.roots)
    yield _that(
        ours,
        "cgroups-own",
        "can be made" if ours else "cannot be made: processor time is neither limited nor measured",
        "run the node as root",
    )


def check_socket(address: str | None) -> Iterator[Check]:
    """Who may talk to the engine: whoever may is root on the machine."""
    address = address or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        tls = bool(os.environ.get("DOCKER_TLS_VERIFY"))
        yield _that(
            tls, "engine-socket", address, "use a Unix socket, or TLS with client certificates (CIS 2.7)", Level.FAIL
        )
        return
    path = Path(address.removeprefix("unix://"))
    try:
        status = path.stat()
    except OSError as error:
        yield Check("engine-socket", Level.FAIL, f"{path}: {error.strerror}", "is the engine running?")
        return
    mode = stat.S_IMODE(status.st_mode)
    safe = status.st_uid == 0 and not mode & _OTHERS
    yield _that(safe, "engine-socket", f"{path}, mode {mode:04o}", "chown root:docker and chmod 660 it (CIS 3.15)")


def check_workspace(directory: Path) -> Check:
    """How the folder of a task can be held to its limits."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        kind = workspace.probe(directory)
    except OSError as error:
        return Check(
            "workspace", Level.FAIL, f"{directory}: {error.strerror}", "give the node a folder of its own (--dir)"
        )
    if kind is WorkspaceKind.PLAIN:
        return Check(
            "workspace", Level.WARN, "plain folders: storage and files are not limited", "run the node as root"
        )
    if kind is WorkspaceKind.TMPFS:
        hint = "load the kernel's module loop and install e2fsprogs"
        return Check("workspace", Level.WARN, "tmpfs: a task's files count as its memory", hint)
    return Check("workspace", Level.PASS, "ext4 images on loop devices")


def check_machine() -> Iterator[Check]:
    """The rest."""
    yield _that(os.geteuid() == 0, "root", f"user {os.geteuid()}", "run the node as root")
    yield _that(
        shutil.which("mkfs.ext4") is not None,
        "mkfs.ext4",
        shutil.which("mkfs.ext4") or "not found",
        "install e2fsprogs",
    )


def check_clock(server: str, clock: Callable[[], float]) -> Check:
    """The clock against the server's. A wrong one harms nothing but the times that people read."""
    try:
        with urllib.request.urlopen(f"{_http(server)}/health/live", timeout=_SERVER_SECONDS) as answer:  # noqa: S310
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:  # any answer has the time
        date = error.headers.get("Date")
    except (OSError, ValueError) as error:
        return Check(
            "server", Level.FAIL, f"{server} does not answer: {error}", "check the address, and that the grid is up"
        )
    if not date:
        return Check("clock", Level.WARN, f"{server} does not tell the time")
    offset = clock() - parsedate_to_datetime(date).timestamp()
    good = abs(offset) <= MOST_OFFSET_SECONDS
    return _that(
        good, "clock", f"{offset:+.0f} s against {server}", "keep the clocks right (systemd-timesyncd, chrony)"
    )


def _http(server: str) -> str:
    if urlsplit(server).scheme not in ("http", "https"):
        raise ValueError("not an address that begins with http:// or https://")
    return server.rstrip("/")


def _engine_silent(message: str) -> Check:
    hint = (
        f"install and start Docker Engine (apt install docker.io) on {socket.gethostname()}, and let this user use it"
    )
    return Check("engine", Level.FAIL, f"no answer: {message}", hint)


def _that(good: bool, name: str, detail: str, hint: str = "", otherwise: Level = Level.WARN) -> Check:
    return Check(name, Level.PASS if good else otherwise, detail, "" if good else hint)


def _numbers(version: str) -> tuple[int, ...]:
    """``20.10.24+dfsg1`` as (20, 10)."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
