"""What must be known of an attempt after a restart of ours: small files beside its output."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from nodes.runtimes import Exit, Job

_EXITS = TypeAdapter(Exit)


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of one attempt.

    ``started``: its program was told to start, so it must not be started again. ``fed``: all of its standard input was
    sent. ``exit``: it ended, as told there; from then on the container is not needed any more.
    """

    folder: Path
    attempt: str

    @staticmethod
    def of(job: Job) -> Marks:
        """The marks of a job lie beside its standard output."""
        return Marks(job.stdout.parent, job.attempt)

    def set_started(self) -> None:
        """Remember that the program is about to start."""
        self._path("started").touch()

    def set_fed(self) -> None:
        """Remember that all input was sent."""
        self._path("fed").touch()

    def set_exit(self, end: Exit) -> None:
        """Remember how it ended."""
        path = self._path("exit.json")
        draft = path.with_suffix(".part")
        draft.write_bytes(_EXITS.dump_json(end))
        os.replace(draft, path)

    @property
    def started(self) -> bool:
        """True when the program may have been started."""
        return self._path("started").exists()

    @property
    def fed(self) -> bool:
        """True when all input was sent."""
        return self._path("fed").exists()

    def exit(self) -> Exit | None:
        """How it ended, None when that is not known."""
        try:
            return _EXITS.validate_json(self._path("exit.json").read_bytes())
        except (FileNotFoundError, ValidationError):  # of another version of ours: as if it were not there
            return None

    def _path(self, kind: str) -> Path:
        return self.folder / f".{self.attempt}.{kind}"
