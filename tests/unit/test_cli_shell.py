"""The command line and the shell: completion from the server, the version, and how little is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.small_grid import TOKEN, SmallGrid, view

COMMAND = (sys.executable, "-c", "from grid.cli import main; main()")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallGrid]:
    with SmallGrid() as running:
        monkeypatch.setenv("GRID_SERVER", running.url)
        monkeypatch.setenv("GRID_TOKEN", TOKEN)
        yield running


class TestShell:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion_scripts(self, shell: str) -> None:
        environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
        done = subprocess.run(
            (*COMMAND, "--show-completion", shell), capture_output=True, text=True, env=environment, check=True
        )

        assert "_GRID_COMPLETE" in done.stdout

    def test_ids_nodes_and_secrets_come_from_the_server(self, server: SmallGrid) -> None:
        task = server.add(view(0xAB, name="sorting"))
        server.secrets["KEY"] = "x"

        assert task.id in completed("grid status ", 2)
        assert completed("grid status 0000ff", 2) == ""
        assert "KEY" in completed("grid secret remove K", 3)

    def test_completion_without_a_grid_is_silent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with SmallGrid() as gone:
            monkeypatch.setenv("GRID_SERVER", gone.url)

        assert completed("grid status ", 2) == ""

    def test_version(self) -> None:
        assert subprocess.check_output((*COMMAND, "--version"), text=True).startswith("grid ")

    def test_importing_grid_is_cheap(self) -> None:
        program = (
            "import sys, grid; grid.GridError; "
            "print([name for name in ('django', 'celery', 'httpx', 'pydantic') if name in sys.modules])"
        )

        assert subprocess.check_output((sys.executable, "-c", program), text=True) == "[]\n"

    def test_the_command_line_needs_neither_django_nor_celery(self) -> None:
        heavy = ("django", "celery", "kombu", "nodes", "webapp", "grid.core")
        program = f"import sys, grid.cli, grid.client; print([name for name in {heavy} if name in sys.modules])"

        assert subprocess.check_output((sys.executable, "-c", program), text=True) == "[]\n"


def completed(line: str, word: int) -> str:
    """What bash would offer for this line."""
    asked = {"_GRID_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(word)}
    done = subprocess.run(COMMAND, env=os.environ | asked, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.stdout.strip()
