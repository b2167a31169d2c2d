"""What the container engine knows of the grid's containers, and a count of every start, kept from outside."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from nodes.runtimes.docker.profile import LABEL_ATTEMPT, LABEL_NODE, LABEL_TASK
from tests.support.images import docker


class Container(NamedTuple):
    """One container of the grid."""

    id: str
    task: str
    attempt: str
    running: bool = True
    command: str = ""


def containers(owner: str) -> list[Container]:
    """The containers, running or not, of the node with this identity (``NodeConfig.identity``)."""
    columns = (
        "{{.ID}}",
        f'{{{{.Label "{LABEL_TASK}"}}}}',
        f'{{{{.Label "{LABEL_ATTEMPT}"}}}}',
        "{{.State}}",
        "{{.Command}}",
    )
    wanted = ["--all", "--no-trunc", "--filter", f"label={LABEL_NODE}={owner}", "--format", " ".join(columns)]
    rows = (line.split(maxsplit=4) for line in docker("ps", *wanted).decode().splitlines())
    return [Container(one, task, attempt, state == "running", program) for one, task, attempt, state, program in rows]


class Starts:
    """Every start of a container of the grid from now on, as the engine reports it. Use as a context."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "starts.json"

    def __enter__(self) -> Starts:
        # What has happened since the moment is told first, so nothing is missed while the connection is made.
        options = ["--filter", "type=container", "--filter", "event=start", "--filter", f"label={LABEL_TASK}"]
        with self._path.open("wb") as out:
            self._process = subprocess.Popen(
                ["docker", "events", "--since", f"{time.time():.3f}", *options, "--format", "{{json .}}"], stdout=out
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def seen(self) -> list[Container]:
        """The starts so far."""
        lines = self._path.read_text().splitlines()
        events: list[dict[str, Any]] = [json.loads(line) for line in lines if line.endswith("}")]
        told = ((one["Actor"]["ID"], one["Actor"]["Attributes"]) for one in events)
        return [Container(made, labels[LABEL_TASK], labels[LABEL_ATTEMPT]) for made, labels in told]

    def by_task(self) -> Counter[str]:
        """How often a container was started for each task."""
        return Counter(one.task for one in self.seen())
