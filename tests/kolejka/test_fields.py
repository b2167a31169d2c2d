"""Every field of kolejka's own classes is in our tables with a test; what programs see of the fields is tried here."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.grids import ROOT, RunningGrid
from tests.support.kolejkas import KolejkaClient, kolejka_python, plain_environment

pytestmark = pytest.mark.needs("docker", "busybox", "root")

SECONDS = 60.0
NAMES = """
import json, tempfile
from kolejka.common import KolejkaLimits, KolejkaResult, KolejkaStats, KolejkaTask
stats = {name: list(getattr(part, "__dict__", {})) for name, part in vars(KolejkaStats()).items()}
print(json.dumps({
    "task": [name for name in vars(KolejkaTask(tempfile.mkdtemp())) if name != "path"],
    "limit": list(vars(KolejkaLimits())),
    "result": [name for name in vars(KolejkaResult(tempfile.mkdtemp())) if name not in ("path", "stats")],
    "stats": [".".join((name, one)) for name, inner in stats.items() for one in inner]
        + [name for name, inner in stats.items() if not inner],
}))
"""
LIMITS = {"memory": "64M", "pids": "16", "time": "20s"}
PRINTS = 'echo "$A|$1|$2|$3"; cat; echo oh >&2'
TASKS: dict[str, dict[str, Any]] = {
    "streams": {
        "args": ["sh", "-c", PRINTS, "sh", 1, None, 2.5],
        "environment": {"A": "b c"},
        "stdin": "in.txt",
        "stdout": "o/out.txt",
        "stderr": "err.txt",
    },
    "together": {"args": ["sh", "-c", PRINTS], "stdout": "both.txt", "stderr": "both.txt"},
    "links": {
        "args": ["sh", "-c", "mkdir d; echo 7 >d/file; ln -s /etc/passwd d/link; ln -s file d/near"],
        "collect": [{"glob": "d/*", "strip": 1, "prefix": "p"}],
    },
    "default": {"args": [], "stdout": "out.txt"},
    "memory": {"args": ["tail", "/dev/zero"], "limits": {**LIMITS, "memory": "16M", "swap": 0}},
    "pids": {
        "args": ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 3 & done; wait"],
        "limits": {**LIMITS, "pids": 4},
    },
    "time": {"args": ["sleep", "60"], "limits": {**LIMITS, "time": "700ms"}},
    "cpus": {"args": ["nproc"], "stdout": "out.txt", "limits": {**LIMITS, "cpus": "1"}},
    "workspace": {"args": ["sh", "-c", "cat /dev/zero >full"], "limits": {**LIMITS, "workspace": "8M"}},
}


@pytest.fixture(scope="module")
def results(grid: RunningGrid, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The result folder of each task, brought by kolejka's client: all are put first, and run beside one another."""
    client = KolejkaClient(grid.folder, grid.server, "admin", grid.token)
    base = tmp_path_factory.mktemp("fields")
    keys = {name: client.ok("task", "put", described(base / name, task)) for name, task in TASKS.items()}
    for key in keys.values():
        grid.client.get(key).wait(SECONDS)
    for name, key in keys.items():
        client.ok("result", "get", key, base / f"{name}-result")
    return {name: base / f"{name}-result" for name in keys}


def described(folder: Path, task: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "in.txt").write_text("3 4\n")
    said = {"image": "busybox:local", "limits": LIMITS, "files": {"in.txt": None}, **task}
    (folder / "kolejka_task.json").write_text(json.dumps(said))
    return folder


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "kolejka_result.json").read_text())
    return found


# ------------------------------------------------------------------------------------------------------------ the table


@cache
def tables() -> dict[str, list[list[str]]]:
    """The rows of each table below "Every field", cell by cell, by the first word of its head."""
    text = (ROOT / "docs" / "kolejka.md").read_text().partition("## Every field\n")[2].partition("\n## ")[0]
    found: dict[str, list[list[str]]] = {}
    for block in re.split(r"\n\n+", text):
        if block.startswith("| "):
            head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines())
            found[head[0]] = rows
    return found


def test_every_field_of_kolejkas_classes_is_in_the_tables() -> None:
    said = subprocess.run(
        [kolejka_python(), "-c", NAMES], env=plain_environment(), capture_output=True, check=True
    ).stdout
    for table, fields in json.loads(said).items():
        told = {name for row in tables()[table] for name in re.findall(r"`([a-z_.]+)`", row[0])}
        assert {name for name in fields if name not in told} == set(), table


def test_every_line_of_the_tables_names_tests_that_exist() -> None:
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))
    }
    for table, rows in tables().items():
        for row in rows:
            named = re.findall(r"`(test_\w+)`", row[-1])
            assert named, (table, row[0])
            assert [name for name in named if name not in defined] == [], (table, row[0])


# ------------------------------------------------------------------------------------------------- what programs see


def test_a_program_has_its_arguments_environment_and_streams(results: dict[str, Path]) -> None:
    assert (results["streams"] / "o" / "out.txt").read_text() == "b c|1|None|2.5\n3 4\n"
    assert (results["streams"] / "err.txt").read_text() == "oh\n"
    assert sorted((results["together"] / "both.txt").read_text().splitlines()) == ["oh", "|||"]
    said = record(results["streams"])
    assert (said["stdout"], said["stderr"]) == ("o/out.txt", "err.txt")
    assert sorted(said["files"]) == ["err.txt", "o/out.txt"]


def test_files_are_collected_and_links_are_not(results: dict[str, Path]) -> None:
    assert sorted(record(results["links"])["files"]) == ["p/file"]
    assert (results["links"] / "p" / "file").read_text() == "7\n"


def test_without_arguments_the_command_of_the_image_runs(results: dict[str, Path]) -> None:
    """It is the shell, which finds nothing to read."""
    assert record(results["default"])["result"] == 0
    assert (results["default"] / "out.txt").read_text() == ""


@pytest.mark.parametrize(
    ("name", "verdict"), [("memory", "memory_limit"), ("time", "time_limit"), ("workspace", "storage_limit")]
)
def test_limits_are_held(grid: RunningGrid, results: dict[str, Path], name: str, verdict: str) -> None:
    said = record(results[name])
    assert said["result"] != 0
    assert grid.client.get(said["id"]).result().verdict == verdict


def test_processes_and_processors_are_limited_and_counted(results: dict[str, Path]) -> None:
    assert record(results["pids"])["stats"]["pids"]["failures"] >= 1
    assert (results["cpus"] / "out.txt").read_text() == "1\n"


def test_a_result_has_the_figures_that_its_table_promises(results: dict[str, Path]) -> None:
    stats = record(results["memory"])["stats"]
    assert {name: sorted(part) for name, part in stats.items() if isinstance(part, dict) and part} == {
        "cpu": ["system", "usage", "user"],
        "memory": ["failures", "max_usage"],
        "pids": ["failures", "max_usage"],
    }
    assert stats["memory"]["failures"] >= 1
    assert stats["time"].endswith("s")
