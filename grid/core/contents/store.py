"""Where the bytes of blobs are kept, by the sha256 of their content."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from grid.core.conf import SettingsError, conf
from grid.core.contents.content import Content, Stored
from grid.core.contents.store_s3 import Bucket, S3BlobStore
from tasks.errors import NotFound

__all__ = ["DirectoryStore", "Store", "Stored", "get_store"]

logger = logging.getLogger(__name__)


class Store(Protocol):
    """Bytes by hash. A content is there completely or not at all."""

    def put(self, chunks: Iterable[bytes], sha256: str | None = None, limit: int | None = None) -> Stored:
        """Keep a content; raises SpecError when it has not the hash promised, TooLarge over ``limit`` bytes."""

    def open(self, sha256: str) -> BinaryIO:
        """Open a content for reading; raises NotFound."""

    def exists(self, sha256: str) -> bool:
        """Whether the content is there."""

    def delete(self, sha256: str) -> None:
        """Forget a content; it is no error when it is not there."""


class DirectoryStore:
    """Blobs as files ``root/aa/REST``, written beside, synced and renamed, so that a crash leaves no half file.

    Whoever writes beside holds a lock on that file, which ends with its process: what a killed server has left there is
    swept away at the next start, and what another server of the same folder is writing is not.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()

    def _sweep(self) -> None:
        """Remove the uploads that nobody goes on with."""
        left = [path for path in self._incoming.iterdir() if _abandoned(path)]
        if left:
            logger.info("removed %d uploads that were cut off", len(left), extra={"action": "sweep"})

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256[2:]

    def put(self, chunks: Iterable[bytes], sha256: str | None = None, limit: int | None = None) -> Stored:
        """See ``Store.put``."""
        content = Content(chunks, sha256, limit)
        with self._begun() as (temporary, file):
            for chunk in content:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            stored = content.stored
            self._keep(temporary, self._path(stored.sha256))
        return stored

    @contextmanager
    def _begun(self) -> Iterator[tuple[Path, IO[bytes]]]:
        """A new file for an upload; it is gone afterwards, unless it was renamed."""
        while True:
            path = self._incoming / secrets.token_hex(16)
            with path.open("xb") as file:
                if not _locked(file):
                    continue  # swept away before it was locked
                try:
                    yield path, file
                finally:
                    path.unlink(missing_ok=True)
            return

    def _keep(self, temporary: Path, path: Path) -> None:
        if path.exists():
            return
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True, mode=0o700)
            _sync_folder(self._root)
        temporary.chmod(0o600)
        temporary.rename(path)
        _sync_folder(path.parent)

    def open(self, sha256: str) -> BinaryIO:
        """See ``Store.open``."""
        try:
            return self._path(sha256).open("rb")
        except FileNotFoundError:
            raise NotFound(f"the content {sha256} is not stored here") from None

    def exists(self, sha256: str) -> bool:
        """See ``Store.exists``."""
        return self._path(sha256).exists()

    def delete(self, sha256: str) -> None:
        """See ``Store.delete``."""
        self._path(sha256).unlink(missing_ok=True)


def _locked(file: IO[bytes]) -> bool:
    """Lock the file as long as it is open; False when somebody else has, or it was removed meanwhile."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(file.fileno()).st_nlink > 0


def _abandoned(path: Path) -> bool:
    """Remove an upload whose process is gone; False while it lives, or when the file went by itself."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        if _locked(file):
            path.unlink()
            return True
    return False


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def get_store() -> Store:
    """The store of this server. Raises SettingsError when its address makes no sense."""
    given = conf()
    if not given.store_url:
        return DirectoryStore(given.dir / "blobs")
    try:
        bucket = Bucket.of_url(given.store_url)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return S3BlobStore(bucket.connect(given.store_key, given.store_secret), given.dir / "incoming")
