"""Folders that strangers send: files of a form, zip and tar archives, unpacked with care and within caps.

Only regular files and folders, under normal relative names, none twice, none that differ only in case; caps on count,
depth, bytes and ratio hold while inflating. The library's own ``extractall`` is not used: its filters have been got
round before, and it has no caps.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast

from tasks.errors import Fault, SpecError, TooLarge
from tasks.files import normal_path
from tasks.words import shown

CHUNK_BYTES = 256 * 1024
# A header of a tar that only describes the next one; longer ones are attacks, for they are read into memory.
MOST_HEADER_BYTES = 64 * 1024
# The end record of a zip stands within this distance from the end of the file.
END_BYTES = 65_557
# What programs that make archives for other systems leave in them.
JUNK = "__MACOSX"

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
)
_DESCRIPTIVE = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)


@dataclass(frozen=True, slots=True)
class Caps:
    """What a folder may be at most. ``ratio`` is inflated to sent bytes, judged from ``ratio_from`` bytes on."""

    files: int = 5000
    depth: int = 32
    bytes: int = 2 * 1024**3
    ratio: int = 200
    ratio_from: int = 16 * 1024**2


class Box:
    """A folder that is being filled; every method raises SpecError or TooLarge for what does not belong into it."""

    def __init__(self, root: Path, caps: Caps) -> None:
        self.root = root
        self.caps = caps
        self.bytes = 0
        self._entries = 0
        self._spelled: dict[str, str] = {}
        self._files: set[str] = set()

    def folder(self, name: str) -> None:
        """Make a folder, and those around it."""
        path = self._checked(name)
        self._claim(path)
        if path in self._files:
            raise _no(path, "is a file and a folder at once")
        (self.root / path).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, chunks: Iterable[bytes], *, executable: bool = False) -> None:
        """Write a file."""
        path = self._checked(name)
        if path in self._files:
            raise _no(path, "stands there twice")
        parent = path.rpartition("/")[0]
        if parent:
            self.folder(parent)
        self._claim(path)
        if (self.root / path).is_dir():
            raise _no(path, "is a file and a folder at once")
        self._files.add(path)
        mode = 0o700 if executable else 0o600
        handle = os.open(self.root / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                self.bytes += len(chunk)
                if self.bytes > self.caps.bytes:
                    raise TooLarge(f"the files have more than {self.caps.bytes} bytes together, the most for one form")
                file.write(chunk)

    def _checked(self, name: str) -> str:
        self._entries += 1
        if self._entries > 4 * self.caps.files or len(self._files) >= self.caps.files:
            raise TooLarge(f"there are more than {self.caps.files} files; pack them into an archive inside the task")
        try:
            path = normal_path(name)
        except ValueError as error:
            raise _no(shown(name), str(error)) from None
        if path.count("/") >= self.caps.depth:
            raise _no(path, f"lies deeper than {self.caps.depth} folders")
        return path

    def _claim(self, path: str) -> None:
        """Note the spelling of a path and of the folders around it; another spelling of the same is refused."""
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            part = "/".join(parts[:end])
            if end < len(parts) and part in self._files:
                raise _no(part, "is a file and a folder at once")
            first = self._spelled.setdefault(unicodedata.normalize("NFC", part).casefold(), part)
            if first != part:
                raise _no(part, f'differs from "{first}" only in upper and lower case')


def unpack(archive: IO[bytes], size: int, box: Box) -> None:
    """Unpack a zip, or a tar that may be packed by gzip, bzip2 or xz, of ``size`` bytes. Raises SpecError, TooLarge."""
    head = archive.read(6)
    archive.seek(0)
    try:
        if head.startswith(b"PK"):
            _unpack_zip(archive, size, box)
        else:
            _unpack_tar(_Metered(_inflated(archive, head), size, box.caps), box)
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # our own disk's fault, not the archive's
        raise _no("", f"the archive cannot be read: {shown(str(error) or type(error).__name__)}") from error


def _unpack_zip(archive: IO[bytes], size: int, box: Box) -> None:
    _check_directory(archive, size, box.caps)
    with zipfile.ZipFile(archive) as reader:
        for info in reader.infolist():
            if info.filename.startswith(f"{JUNK}/"):
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                box.folder(info.filename)
            elif kind not in (0, stat.S_IFREG):
                raise _no(shown(info.filename), "is a link or a device; only files and folders are taken")
            elif info.flag_bits & 0x1:
                raise _no(shown(info.filename), "has a password; send the archive without one")
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _no(shown(info.filename), "is packed in a way that is not known here; use the ordinary one")
            else:
                with reader.open(info) as content:
                    metered = _Metered(content, info.compress_size, box.caps)
                    box.file(info.filename, metered.chunks(), executable=bool(info.external_attr >> 16 & stat.S_IXUSR))


def _check_directory(archive: IO[bytes], size: int, caps: Caps) -> None:
    """Refuse a zip whose list of files would not fit into memory: the library reads it whole."""
    archive.seek(max(0, size - END_BYTES))
    tail = archive.read(END_BYTES)
    archive.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise _no("", "the zip is cut off: it has no list of files at its end")
    entries = int.from_bytes(tail[at + 10 : at + 12], "little")
    listed_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
    if entries > 4 * caps.files or listed_bytes > 4 * caps.files * 1500:
        raise TooLarge(f"the zip has more than {caps.files} files; pack them into an archive inside the task")


def _unpack_tar(stream: _Metered, box: Box) -> None:
    # As a stream: one member after the other, never back.
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", tarinfo=_CheckedInfo) as reader:
        for member in reader:
            if member.name == JUNK or member.name.startswith(f"{JUNK}/"):
                continue
            if member.isdir():
                if member.name.strip("./"):
                    box.folder(member.name)
                continue
            if not member.isreg() or member.issparse():
                raise _no(shown(member.name), "is a link or a device; only files and folders are taken")
            content = reader.extractfile(member)
            if content is not None:
                box.file(member.name, _chunks(content), executable=bool(member.mode & stat.S_IXUSR))


class _CheckedInfo(tarfile.TarInfo):
    """A member whose header makes sense."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """See TarInfo; refuses sizes that the library would follow blindly."""
        made = super().frombuf(buf, encoding, errors)
        if made.size < 0 or (made.type in _DESCRIPTIVE and made.size > MOST_HEADER_BYTES):
            raise _no("", "the archive has a header of an impossible size")
        return made


class _Metered:
    """A stream that ends with TooLarge when it inflates beyond the caps."""

    def __init__(self, stream: IO[bytes], sent_bytes: int, caps: Caps) -> None:
        self._stream = stream
        self._most = max(caps.ratio_from, sent_bytes * caps.ratio)
        self._limit = min(self._most, caps.bytes + caps.files * 4096)
        self._caps = caps
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, and never more than a chunk or two."""
        data = self._stream.read(min(size, 4 * CHUNK_BYTES) if size >= 0 else CHUNK_BYTES)
        self._read += len(data)
        if self._read > self._limit:
            why = (
                f"unpacks to more than {self._caps.ratio} times its size"
                if self._limit == self._most
                else "is too large"
            )
            raise TooLarge(f"the archive {why}; send the files themselves")
        return data

    def chunks(self) -> Iterator[bytes]:
        """The whole stream."""
        return iter(lambda: self.read(CHUNK_BYTES), b"")


def _inflated(archive: IO[bytes], head: bytes) -> IO[bytes]:
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=archive, mode="rb"))
    if head.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(archive))
    if head.startswith(b"\xfd7zXZ"):
        return cast(IO[bytes], lzma.LZMAFile(archive))
    return archive


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: content.read(CHUNK_BYTES), b"")


def _no(path: str, message: str) -> SpecError:
    return SpecError([Fault(path, message)])
