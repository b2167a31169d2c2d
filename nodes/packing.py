"""What an attempt brings home, made ready to travel: small files inside the outcome, large ones to be uploaded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nodes.collect import Collected, CollectedFile
from tasks.errors import NodeFault
from tasks.outcome import OutputFile, TooLargeFile

# Together they stay well below what servers and proxies take as the body of a request.
INLINE_FILE_BYTES = 64 * 1024
INLINE_BYTES = 256 * 1024
_PIECE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Packed:
    """``files`` is the manifest, ``inline`` small contents as base64 by sha256, ``uploads`` the files of the others."""

    files: list[OutputFile] = field(default_factory=list)
    inline: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    too_large: list[TooLargeFile] = field(default_factory=list)
    _inline_bytes: int = 0
    _names: set[str] = field(default_factory=set)

    def add(self, file: CollectedFile) -> None:
        """Take a file along; of two with one name the first wins."""
        if file.path in self._names:
            self.refused.append(f"{file.path} would have the same name as another file of the result")
            return
        self._names.add(file.path)
        self.files.append(OutputFile(path=file.path, sha256=file.sha256, size=file.size, executable=file.executable))
        if file.sha256 in self.inline or file.sha256 in self.uploads:
            return
        if file.size <= INLINE_FILE_BYTES and self._inline_bytes + file.size <= INLINE_BYTES:
            self.inline[file.sha256] = base64.b64encode(file.local.read_bytes()).decode()
            self._inline_bytes += file.size
        else:
            self.uploads[file.sha256] = str(file.local)


def pack(streams: Iterable[tuple[str, Path]], collected: Collected, most_bytes: int | None = None) -> Packed:
    """Pack captured ``streams`` (name in the result, file) and ``collected`` files. Raises NodeFault ``node_disk``.

    A stream of more than ``most_bytes`` stays behind; of ``collected``, such files have been left out before.
    """
    packed = Packed(refused=[str(one) for one in collected.refused], too_large=list(collected.too_large))
    try:
        for name, path in streams:
            file = _captured(name, path)
            if most_bytes is not None and file.size > most_bytes:
                packed.too_large.append(TooLargeFile(path=name, size=file.size, most=most_bytes))
            else:
                packed.add(file)
        for file in collected.files:
            packed.add(file)
    except OSError as error:
        raise NodeFault("node_disk", f"cannot read a result: {error}") from error
    return packed


def _captured(name: str, path: Path) -> CollectedFile:
    digest, size = hashlib.sha256(), 0
    if path.exists():
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
    else:
        path.touch(mode=0o600)
    return CollectedFile(name, path, size, digest.hexdigest(), False)
