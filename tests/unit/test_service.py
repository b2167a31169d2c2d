"""The units of systemd for a node and its observer: systemd can read them, and they start commands of ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from grid.cli.app import app
from nodes.__main__ import USAGE
from nodes.start import NOT_WANTED
from observer.__main__ import USAGE as ALREADY_THERE
from observer.protocol import DEFAULT_SOCKET

UNIT = Path(__file__).resolve().parents[2] / "compose" / "celery-grid-node.service"
OBSERVER = UNIT.with_name("celery-grid-observer.service")


def settings(unit: Path = UNIT) -> dict[str, str]:
    """The lines of the unit as names and values; none occurs twice but Environment."""
    lines = (line.partition("=") for line in unit.read_text().splitlines() if line and line[0] not in "#[")
    return {name: value for name, _, value in lines}


@pytest.mark.needs("systemd")
@pytest.mark.parametrize("unit", [UNIT, OBSERVER], ids=["node", "observer"])
def test_systemd_reads_it(unit: Path, tmp_path: Path) -> None:
    installed = tmp_path / unit.name
    program = settings(unit)["ExecStart"].split()[0]
    installed.write_text(unit.read_text().replace(program, "/bin/true").replace("file:///opt", "file:///etc"))
    done = subprocess.run(["systemd-analyze", "verify", installed], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_starts_a_node_and_does_not_insist_where_that_makes_no_sense() -> None:
    program, *words = settings()["ExecStart"].split()
    assert (Path(program).name, words) == ("grid", ["node", "start", "$NODE_OPTIONS"])
    assert "node" in {group.name for group in app.registered_groups}
    assert settings()["RestartPreventExitStatus"] == f"{USAGE} {NOT_WANTED}"


def test_the_observers_starts_an_observer_where_nodes_look_for_it() -> None:
    _, *words = settings(OBSERVER)["ExecStart"].split()
    assert words == ["-m", "observer", "serve", "--socket", str(DEFAULT_SOCKET).replace("/var/run", "/run"), words[-1]]
    assert settings(OBSERVER)["RestartPreventExitStatus"] == str(ALREADY_THERE)
