"""Writing a result into a folder: no name leads out of it, and no half file is left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from tasks.errors import GridError
from tasks.files import normal_path

RECORD_NAME = "result.json"
# Where the record goes when the task itself made a file of that name.
OTHER_RECORD_NAME = "grid-result.json"


class Progress(Protocol):
    """Told of the bytes done and of all bytes, again and again."""

    def __call__(self, done: int, total: int, /) -> None: ...


def no_progress(done: int, total: int, /) -> None:
    """The progress that nobody watches."""


class Saver:
    """Puts files into ``folder``, which must be empty or absent unless ``force`` is given. Raises GridError."""

    def __init__(self, folder: Path, *, force: bool = False) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            empty = next(folder.iterdir(), None) is None
        except OSError as error:
            raise GridError(f"cannot make the folder {folder}: {error.strerror}") from error
        if not (empty or force):
            raise GridError(f"{folder} is not empty; name another folder, or use --force (force=True) to write into it")

    @contextmanager
    def open(self, name: str, *, executable: bool = False) -> Iterator[BinaryIO]:
        """A stream whose content becomes the file ``name`` when all went well, and disappears otherwise."""
        path = self._path(name)
        fresh = ""
        try:
            descriptor, fresh = tempfile.mkstemp(prefix=".grid-", dir=path.parent)
            with os.fdopen(descriptor, "w+b") as stream:
                yield stream
                os.fchmod(stream.fileno(), (0o777 if executable else 0o666) & ~_umask())
            Path(fresh).replace(path)
        except OSError as error:
            raise GridError(f"cannot write {path}: {error.strerror or error}") from error
        finally:
            if fresh:
                Path(fresh).unlink(missing_ok=True)

    def write_record(self, content: bytes, taken: frozenset[str]) -> Path:
        """Write the record of the result, beside the files ``taken``, and return its path."""
        name = OTHER_RECORD_NAME if RECORD_NAME in taken else RECORD_NAME
        with self.open(name) as stream:
            stream.write(content)
        return self.folder / name

    def _path(self, name: str) -> Path:
        """Where the file goes; its folders are made, and a link among them is refused. Raises GridError."""
        try:
            parts = normal_path(name).split("/")
        except ValueError as error:
            raise GridError(f"the result has a file whose name {error}: {name!r}; it was not written") from error
        here = self.folder
        for part in parts[:-1]:
            here /= part
            try:
                here.mkdir(exist_ok=True)
            except OSError as error:
                raise GridError(f"cannot make the folder {here}: {error.strerror}") from error
            if here.is_symlink():
                raise GridError(f"{here} is a link, which may lead anywhere; name an empty folder")
        return here / parts[-1]


def _umask() -> int:
    """The mask of new files. Reading it means setting it, for a moment the strict one."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
