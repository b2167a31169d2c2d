"""What the nodes of a soak may leave on the machine, and what the engine says of the containers that were started."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nodes.config import NodeConfig
from nodes.runtimes.docker.profile import LABEL_ATTEMPT, LABEL_OWNER, LABEL_TASK

CGROUPS = Path("/sys/fs/cgroup")
_GROUPS_FOLDER = "grid"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a container for an attempt, as the engine tells it; in seconds, without an end while it goes on."""

    attempt: str
    task: str
    began: float
    ended: float = math.inf


class Recorder:
    """Writes down every start and end of a container that the engine tells of, independently of what the grid says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        command = ["docker", "events", "--format", "{{json .}}", "--filter", "type=container"]
        command += ["--filter", "event=start", "--filter", "event=die"]
        with file.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, start_new_session=True)

    def alive(self) -> bool:
        """False when the engine has closed the stream: then the count means nothing."""
        return self._process.poll() is None

    def close(self) -> None:
        """No more."""
        self._process.terminate()
        self._process.wait()

    def runs(self, owners: Iterable[str]) -> list[Run]:
        """Every run of a container on the nodes of these identities, by their beginning."""
        mine = set(owners)
        found: list[Run] = []
        going_on: dict[str, int] = {}
        for line in self._file.read_text().splitlines():
            said = json.loads(line)
            labels, at = said["Actor"]["Attributes"], said["timeNano"] / 1e9
            if labels.get(LABEL_OWNER) not in mine:
                continue
            if said["Action"] == "start":
                going_on[said["id"]] = len(found)
                found.append(Run(labels[LABEL_ATTEMPT], labels[LABEL_TASK], at))
            elif said["id"] in going_on:
                number = going_on.pop(said["id"])
                found[number] = replace(found[number], ended=at)
        return found


def noted_runs(folder: Path) -> list[Run]:
    """The same of simulated nodes, as each of them has noted it down; what ran when one was killed has no end."""
    found: dict[tuple[str, float], Run] = {}
    for path in folder.glob("*.jsonl"):
        going_on: dict[str, Run] = {}
        for line in path.read_text().splitlines():
            said = json.loads(line)
            if said["what"] == "start":
                # A simulated machine takes what it runs down with it.
                run = Run(said["attempt"], said["task"], said["at"], said["at"])
                going_on[run.attempt] = found[run.attempt, run.began] = run
            elif said["what"] == "die":
                run = going_on[said["attempt"]]
                found[run.attempt, run.began] = replace(run, ended=said["at"])
    return list(found.values())


def leftovers(folder: Path, server: Path, nodes: Iterable[NodeConfig]) -> dict[str, list[str]]:
    """By kind, what is left of attempts and of half-written files when nothing is to be done any more."""
    nodes = list(nodes)
    return {
        "containers": [line for node in nodes for line in _containers(node)],
        "mounts": _mounts(folder),
        "loop devices": list(_loop_devices(folder)),
        "control groups": [str(path) for node in nodes for path in _groups(node)],
        "spool files": [str(path) for node in nodes for path in node.spool.glob("*")],
        "attempts and workspaces": [str(path) for node in nodes for path in _folders(node)],
        "half-written files": [str(path) for path in _half_written(server, nodes)],
    }


def processes(folder: Path) -> list[str]:
    """Processes that know the folder by their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in command and b"soak.py" not in command:
            found.append(f"{path.parent.name}: {command.replace(bytes(1), b' ').decode(errors='replace')[:200]}")
    return found


def _containers(node: NodeConfig) -> list[str]:
    command = ["docker", "ps", "--all", "--format", "{{.ID}} {{.Names}} {{.Status}}"]
    command += ["--filter", f"label={LABEL_OWNER}={node.identity}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def _mounts(folder: Path) -> list[str]:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [mount for mount in mounts if mount.startswith(f"{folder}/")]


def _loop_devices(folder: Path) -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = path.read_text().strip()
        except OSError:  # it was let go at this moment
            continue
        if backing.startswith(f"{folder}/"):
            yield f"{path.parent.parent.name}: {backing}"


def _groups(node: NodeConfig) -> Iterator[Path]:
    """The groups of attempts, in every hierarchy; the node's own group stays while it runs."""
    for base in (CGROUPS, *CGROUPS.glob("*")):
        yield from (base / _GROUPS_FOLDER / node.identity).glob("*/")


def _folders(node: NodeConfig) -> Iterator[Path]:
    for folder in (node.attempts, node.workspaces):
        yield from (path for path in folder.glob("*") if not path.name.startswith("."))


def _half_written(server: Path, nodes: Iterable[NodeConfig]) -> Iterator[Path]:
    yield from (server / "blobs" / "incoming").glob("*")
    for folder in (server, *(node.directory for node in nodes)):
        yield from folder.rglob("*.new")
        yield from folder.rglob("*.bad")
    for node in nodes:
        yield from (node.workspaces / ".templates").glob("draft-*")
        yield from (node.blobs / "incoming").glob("*")
