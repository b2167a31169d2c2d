"""Input files on their way into a workspace: from the order itself, or by a cache that downloads each blob once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from nodes.faults import FULL
from tasks.errors import NodeFault, NotFound, Unavailable
from tasks.files import normal_path
from tasks.order import StagedFile

Download = Callable[[str], AbstractContextManager[Iterator[bytes]]]
"""Gives the chunks of the blob with a sha256; raises errors of ``tasks.errors``."""

TRIES = 3
_COPY_BYTES = 1024 * 1024


class WorkspaceFull(Exception):
    """The task's own storage or files limit has no room for its input files."""


class BlobCache:
    """Blobs by sha256 in a folder, at most ``limit_bytes`` of them; the least recently used go first. Thread-safe."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        # One lock for each blob that somebody wants at the moment.
        self._turns: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._incoming = folder / "incoming"
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True, mode=0o700)
        self._held_bytes = sum(path.stat().st_size for path in self._blobs())

    @contextmanager
    def open(self, sha256: str, size: int, download: Download) -> Iterator[BinaryIO]:
        """The content of a blob; it stays readable while open, also when the cache lets go of it meanwhile.

        Two callers that want the same missing blob cause one download. Raises ``NodeFault``.
        """
        with self._lock:
            turn = self._turns.setdefault(sha256, threading.Lock())
        with turn:
            file = self._find(sha256, size) or self._fetch(sha256, download)
        with file:
            yield file

    def _find(self, sha256: str, size: int) -> BinaryIO | None:
        path = self._path(sha256)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_size != size:
            file.close()
            return None
        # The time of the last use, for the eviction; access times are often switched off.
        with suppress(FileNotFoundError):
            os.utime(path)
        return file

    def _fetch(self, sha256: str, download: Download) -> BinaryIO:
        incoming = self._incoming / f"{sha256}.{threading.get_ident()}"
        try:
            size = _fetch_to(incoming, sha256, download)
            file = incoming.open("rb")
            path = self._path(sha256)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            incoming.rename(path)
        except OSError as error:
            raise NodeFault("node_disk", f"cannot keep input {sha256}: {error.strerror}") from error
        finally:
            incoming.unlink(missing_ok=True)
        self._make_room(size)
        return file

    def _make_room(self, added_bytes: int) -> None:
        with self._lock:
            self._held_bytes += added_bytes
            if self._held_bytes <= self._limit_bytes:
                return
            found = sorted(((path.stat(), path) for path in self._blobs()), key=lambda pair: pair[0].st_mtime_ns)
            self._held_bytes = sum(status.st_size for status, _ in found)
            for status, path in found:
                if self._held_bytes <= self._limit_bytes:
                    return
                path.unlink(missing_ok=True)
                self._held_bytes -= status.st_size

    def _blobs(self) -> Iterator[Path]:
        return (path for path in self._folder.glob("??/*") if len(path.name) == 64)

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256


class Staging:
    """Writes the files of one attempt into its workspace, owned by the user that the task runs as."""

    def __init__(self, cache: BlobCache, uid: int, gid: int) -> None:
        self._cache = cache
        self._uid = uid
        self._gid = gid

    def put(
        self, workspace: Path, files: tuple[StagedFile, ...], inline: Mapping[str, str], download: Download
    ) -> None:
        """Write ``files`` under ``workspace``; contents come from ``inline`` (base64 by sha256) or by ``download``.

        Raises ``NodeFault`` for a fault of the grid and ``WorkspaceFull`` when the task's limits have no room for them.
        """
        made = {workspace}
        for file in files:
            target = workspace / _checked(file.path)
            try:
                self._folders(workspace, target.parent, made)
                if file.sha256 in inline:
                    self._write(target, file, [_decoded(file, inline[file.sha256])])
                else:
                    with self._cache.open(file.sha256, file.size, download) as content:
                        self._write(target, file, _pieces(content))
            except NodeFault as fault:
                raise NodeFault(fault.kind, f'"{file.path}": {fault.message}') from fault
            except OSError as error:
                if error.errno in FULL:
                    raise WorkspaceFull(f"no room for {file.path} ({file.size} bytes)") from error
                raise NodeFault("staging", f"cannot write {file.path}: {error.strerror}") from error

    def _folders(self, workspace: Path, folder: Path, made: set[Path]) -> None:
        """Make ``folder`` and those above it up to the workspace, owned by the task's user."""
        for one in reversed([folder, *folder.parents][: len(folder.relative_to(workspace).parts)]):
            if one not in made:
                one.mkdir(mode=0o755, exist_ok=True)
                os.chown(one, self._uid, self._gid)
                made.add(one)

    def _write(self, target: Path, file: StagedFile, chunks: Iterable[bytes]) -> None:
        # Nothing of the task has run yet, so nobody planted links here; what a former start left half-way is replaced.
        target.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(target, flags, 0o600), "wb") as out:
            out.writelines(chunks)
            os.fchmod(out.fileno(), 0o755 if file.executable else 0o644)
            os.fchown(out.fileno(), self._uid, self._gid)


def _fetch_to(path: Path, sha256: str, download: Download) -> int:
    """Download a blob to ``path`` and return its size; tried a few times, for a cut connection is common."""
    problem = ""
    for _ in range(TRIES):
        try:
            with download(sha256) as chunks, path.open("wb") as out:
                found, size = _copy(chunks, out)
        except NotFound as error:
            raise NodeFault("input_missing", f"the server has no blob {sha256}") from error
        except Unavailable as error:
            problem = str(error)
            continue
        if found == sha256:
            return size
        problem = f"what came is {found}"
    raise NodeFault("staging", f"cannot fetch blob {sha256}: {problem}")


def _copy(chunks: Iterable[bytes], out: BinaryIO) -> tuple[str, int]:
    """Write ``chunks`` and make them durable; return their sha256 and size."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        out.write(chunk)
    out.flush()
    os.fsync(out.fileno())
    return digest.hexdigest(), out.tell()


def _pieces(content: BinaryIO) -> Iterator[bytes]:
    while piece := content.read(_COPY_BYTES):
        yield piece


def _decoded(file: StagedFile, text: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise NodeFault("staging", "the order's content is not base64") from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise NodeFault("staging", f"the order's content is not {file.sha256}")
    return content


def _checked(path: str) -> str:
    """The server has normalised it; a path that left the workspace would be written by root, so it is checked again."""
    try:
        return normal_path(path)
    except ValueError as error:
        raise NodeFault("staging", f"the order names a file that {error}") from error
