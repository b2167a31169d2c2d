"""The environment of kolejka's own packages, made once, and how its programs are run in tests."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "tests" / "kolejka" / "requirements.txt"
FOLDER = ROOT / ".venv-kolejka"
PROGRAMS = ROOT / "tests" / "kolejka" / "programs"


@cache
def kolejka_python() -> Path:
    """The Python of the environment, which is made at the first call and when the requirements have changed.

    Raises CalledProcessError where its packages cannot be had.
    """
    wanted = REQUIREMENTS.read_text() + sys.version
    FOLDER.mkdir(exist_ok=True)
    made, python = FOLDER / "made-of.txt", FOLDER / "bin" / "python"
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != wanted:
            made.unlink(missing_ok=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER / "env"], check=True)
            python = FOLDER / "env" / "bin" / "python"
            command: list[str | Path] = [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                REQUIREMENTS,
            ]
            subprocess.run(command, check=True)
            made.write_text(wanted)
    return FOLDER / "env" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended, and what it printed."""

    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class KolejkaClient:
    """The real ``kolejka-client`` of one account; its configuration is in ``folder``."""

    folder: Path
    server: str
    name: str
    password: str

    @property
    def config(self) -> Path:
        """Its file, written anew."""
        path = self.folder / f"kolejka-{self.name}.conf"
        path.write_text(
            f"[client]\nserver = {self.server}/kolejka\nusername = {self.name}\npassword = {self.password}\n"
        )
        return path

    def run(self, *arguments: object, seconds: float = 60.0) -> Said:
        """Run one command."""
        command = [str(kolejka_python().with_name("kolejka-client")), "--config-file", str(self.config)]
        command += [str(one) for one in arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, env=plain_environment()
        )
        return Said(done.returncode, done.stdout.strip(), done.stderr)

    def ok(self, *arguments: object, seconds: float = 60.0) -> str:
        """What a command prints that must succeed."""
        said = self.run(*arguments, seconds=seconds)
        assert said.status == 0, said.err
        return said.out


def plain_environment() -> dict[str, str]:
    """The environment without what belongs to a grid, to Django or to measuring."""
    ours = ("GRID_", "DJANGO_", "COVERAGE_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


if __name__ == "__main__":
    # The suite's set-up: fetching packages may take longer than a test.
    kolejka_python()
