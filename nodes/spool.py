"""Records that outlive the agent: each a JSON file that is either whole or not there, readable by its owner only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from tasks.model import Record
from tasks.outcome import Outcome


def write_durably(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` by write, fsync, rename: after a crash there is the old file or the new one, whole.

    Where the disk is full nothing is left of the new one.
    """
    temporary = path.with_name(path.name + ".new")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(file, "wb", closefd=False) as stream:
            stream.write(data)
        os.fsync(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    temporary.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Unreported(Record):
    """An outcome on its way to the server, with what is needed to send it later.

    ``uploads`` maps the sha256 of blobs that do not travel in the outcome to their files, ``logs`` the streams of the
    log to theirs; the files stay until the server has answered.
    """

    outcome: Outcome
    task: str
    uploads: dict[str, str] = Field(default={})
    logs: dict[str, str] = Field(default={})


class Spool:
    """The outcomes that the server has not answered yet, one file each; thread-safe for different attempts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, entry: Unreported) -> None:
        """Keep an outcome. It is on the disk when this returns."""
        write_durably(self._path(entry.outcome.attempt), entry.model_dump_json().encode())

    def drop(self, attempt: str) -> None:
        """Forget the outcome of ``attempt``, if there is one."""
        self._path(attempt).unlink(missing_ok=True)

    def entries(self) -> Iterator[Unreported]:
        """Every outcome that is still to be reported; unreadable files are set aside with the ending ``.bad``."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield Unreported.model_validate_json(path.read_bytes())
            except FileNotFoundError:
                continue
            except ValidationError:
                path.rename(path.with_suffix(".bad"))

    def _path(self, attempt: str) -> Path:
        return self._folder / f"{attempt}.json"
