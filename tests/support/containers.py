"""What the container engine knows of the grid's containers, and a count of every start, kept from outside."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from nodes.runtimes.docker.profile import LABEL_ATTEMPT, LABEL_NODE, LABEL_TASK
from tests.support.images import docker
from tests.support.node_api import eventually

TOLD_SECONDS = 60.0
"""How long the engine may take to tell what it has done; generous, for the machine may be busy."""


class Container(NamedTuple):
    """One container of the grid; ``node`` is the identity of the node that made it."""

    id: str
    task: str
    attempt: str
    running: bool = True
    command: str = ""
    node: str = ""


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
    return [
        Container(one, task, attempt, state == "running", program, owner) for one, task, attempt, state, program in rows
    ]


class Starts:
    """Every start of a container of any grid from now on, as the engine reports it. Use as a context.

    Grids of other tests may use the same engine. It tells of a start a little later than it happens, but of all things
    in their order: so a count begins with a volume that is made for it, and ends where the engine tells of that.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "starts.json"

    def __enter__(self) -> Starts:
        wanted = ("type=container", "event=start", "type=volume", "event=create")
        filters = [part for one in wanted for part in ("--filter", one)]
        # What has happened since the moment is told first, so nothing is missed while the connection is made.
        command = ["docker", "events", "--since", f"{time.time():.3f}", *filters, "--format", "{{json .}}"]
        with self._path.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def seen(self) -> list[Container]:
        """All starts that happened before this call."""
        marker = f"told-{uuid.uuid4().hex}"
        docker("volume", "create", marker)
        try:
            eventually(lambda: any(one["Actor"]["ID"] == marker for one in self._told()), TOLD_SECONDS)
        finally:
            docker("volume", "rm", marker)
        actors = [one["Actor"] for one in self._told() if one["Action"] == "start"]
        made = [(one["ID"], one["Attributes"]) for one in actors if LABEL_TASK in one["Attributes"]]
        return [Container(one, by[LABEL_TASK], by[LABEL_ATTEMPT], node=by[LABEL_NODE]) for one, by in made]

    def by_task(self) -> Counter[str]:
        """How often a container was started for each task."""
        return Counter(one.task for one in self.seen())

    def _told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_text().splitlines() if line.endswith("}")]
