"""Where the bytes of blobs are kept, by the sha256 of their content."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol

from grid.core.conf import conf
from tasks.errors import Fault, NotFound, SpecError, TooLarge


@dataclass(frozen=True, slots=True)
class Stored:
    """A content that the store holds."""

    sha256: str
    size: int


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
    """Blobs as files ``root/aa/REST``, written beside, synced and renamed, so that a crash leaves no half file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256[2:]

    def put(self, chunks: Iterable[bytes], sha256: str | None = None, limit: int | None = None) -> Stored:
        """See ``Store.put``."""
        temporary = self._incoming / secrets.token_hex(16)
        digest, size = hashlib.sha256(), 0
        try:
            with temporary.open("xb") as file:
                for chunk in chunks:
                    size += len(chunk)
                    if limit is not None and size > limit:
                        raise TooLarge(f"the file has more than {limit} bytes, the most that is taken here")
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            found = digest.hexdigest()
            if sha256 is not None and found != sha256:
                raise SpecError([Fault("", f"the content has the sha256 {found}, not {sha256}", "send the file again")])
            self._keep(temporary, self._path(found))
        finally:
            temporary.unlink(missing_ok=True)
        return Stored(found, size)

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


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def get_store() -> Store:
    """The store of this server."""
    return DirectoryStore(conf().dir / "blobs")
