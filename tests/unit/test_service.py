"""The unit of systemd for a node: systemd can read it, and what it starts is a command of ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from grid.cli.app import app
from nodes.__main__ import USAGE
from nodes.start import NOT_WANTED

UNIT = Path(__file__).resolve().parents[2] / "compose" / "celery-grid-node.service"


def settings() -> dict[str, str]:
    """The lines of the unit as names and values; none occurs twice but Environment."""
    lines = (line.partition("=") for line in UNIT.read_text().splitlines() if line and line[0] not in "#[")
    return {name: value for name, _, value in lines}


@pytest.mark.needs("systemd")
def test_systemd_reads_it(tmp_path: Path) -> None:
    installed = tmp_path / UNIT.name
    program = settings()["ExecStart"].split()[0]
    installed.write_text(UNIT.read_text().replace(program, "/bin/true").replace("file:///opt", "file:///etc"))
    done = subprocess.run(["systemd-analyze", "verify", installed], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_starts_a_node_and_does_not_insist_where_that_makes_no_sense() -> None:
    program, *words = settings()["ExecStart"].split()
    assert (Path(program).name, words) == ("grid", ["node", "start", "$NODE_OPTIONS"])
    assert "node" in {group.name for group in app.registered_groups}
    assert settings()["RestartPreventExitStatus"] == f"{USAGE} {NOT_WANTED}"
