"""One grid for all hostile tasks: they are submitted at once, run four at a time, and are judged one by one."""

from __future__ import annotations

import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from grid import Result
from nodes.config import NodeConfig
from tests.attacks.attack import IMAGE, Attack
from tests.attacks.host import Host, Place, clock_offset_seconds, look
from tests.attacks.table import TABLE
from tests.support.grid_fixtures import pytest_runtest_makereport
from tests.support.grids import RunningGrid
from tests.support.images import ensure_image

__all__ = ["pytest_runtest_makereport"]

PROGRAMS = Path(__file__).parent / "programs"
SECRET = f"the secret of the host {uuid.uuid4().hex}"
END_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a hostile task: its result, what it wrote on both streams, and the verdicts of its attempts."""

    result: Result
    written: str
    attempts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Raid:
    """All of it: the grid, which is still there, the machine before, and every task's end by the row's name."""

    grid: RunningGrid
    place: Place
    before: Host
    clock_seconds: float
    ends: Mapping[str, Ended]


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder that everybody may enter, unlike those that pytest makes: only the grid's own modes protect it."""
    made = Path(tempfile.mkdtemp(prefix="attacks-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def canary(folder: Path) -> Path:
    """A folder that every process of the machine may write to, if only it gets there."""
    made = folder / "canary"
    (made / "inside").mkdir(parents=True)
    for path in (made / "secret", made / "inside" / "other"):
        path.write_text(SECRET)
        path.chmod(0o666)
    for path in (made, made / "inside"):
        path.chmod(0o777)
    return made


@pytest.fixture(scope="session")
def raid(folder: Path, canary: Path) -> Iterator[Raid]:
    """Every task of the table has run."""
    ensure_image(IMAGE, PROGRAMS, suid=("doors",))
    mark = f"attack{uuid.uuid4().hex[:12]}"
    with (
        RunningGrid(folder / "grid", slots=4, profiles=["judge"]) as grid,
        closing(socket.socket(socket.AF_UNIX)) as listener,
    ):
        listener.bind(f"\0{mark}")
        listener.listen()
        node = NodeConfig(server=grid.server, name=grid.facts["node"], directory=grid.directory / "node", token="none")
        place = Place(canary, node, mark)
        before, clock_seconds = look(place), clock_offset_seconds()
        environment = {
            "MARK": mark,
            "ABSTRACT": mark,
            "SECRET": str(canary / "secret"),
            "HOST_FOLDER": str(folder),
            "NODE_FOLDER": str(node.directory),
            "GRID_PORT": str(urlsplit(grid.server).port),
        }
        ends = _ends(grid, environment)
        yield Raid(grid, place, before, clock_seconds, ends)


def _ends(grid: RunningGrid, environment: Mapping[str, str]) -> dict[str, Ended]:
    folders = [_task_folder(grid, attack, environment) for attack in TABLE]
    tasks = grid.client.submit_many(folders)
    found = {}
    for attack, task in zip(TABLE, tasks, strict=True):
        result = task.wait(END_SECONDS)
        written = "".join(result.files[name].read_text(errors="surrogateescape") for name in ("out", "err"))
        found[attack.name] = Ended(result, written, tuple(attempt.verdict for attempt in task.attempts()))
    return found


def _task_folder(grid: RunningGrid, attack: Attack, environment: Mapping[str, str]) -> Path:
    spec: dict[str, Any] = {
        "name": attack.name,
        "image": IMAGE,
        "environment": dict(environment),
        "limits": dict(attack.limits),
        "collect": [dict(rule) for rule in attack.collect],
        "stdout": "out",
        "stderr": "err",
        **attack.spec,
    }
    return grid.task_folder(*attack.args, **spec)
