"""The command ``grid`` as people run it: real processes that talk to the grid of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.support.grids import ROOT, RunningGrid

GRID = str(Path(sys.executable).with_name("grid"))
PATIENCE_SECONDS = 60.0
# Says that it runs, and ends when it is let go.
WAITS = ("sh", "-c", "echo ready; while [ ! -e go ]; do sleep 0.05; done; echo over")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read as JSON."""
        return json.loads(self.out)


def command(running: RunningGrid, *arguments: str | Path) -> Done:
    """Run ``grid ARGUMENTS`` to its end; its output goes into pipes."""
    done = subprocess.run(
        [GRID, *map(str, arguments)],
        env=running.client_environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        cwd=ROOT,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def background(running: RunningGrid, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """``grid ARGUMENTS`` as a process that is still running; it is ended if the test leaves it."""
    process = subprocess.Popen(
        [GRID, *map(str, arguments)],
        env=running.client_environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def a_line(stream: IO[str] | None) -> str:
    """The next line that a process prints."""
    assert stream is not None
    return stream.readline().rstrip("\n")
