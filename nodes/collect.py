"""Bring the outputs of a task home, after its container has stopped and no process of it is left.

Nothing in the folder is believed: links of any kind, pipes, devices, endless folders and enormous files are refused by
name, and what is left is copied while it is hashed. (kolejka copies the target of a symbolic link. Here every link is
refused, because a link is how other systems were made to hand out files of the node.)
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nodes.beneath import Found, Refusal, Walk, check_regular, open_beneath
from nodes.patterns import Pattern
from tasks.errors import NodeFault
from tasks.files import MAX_PATH_BYTES, CollectRule
from tasks.outcome import MissingOutput, TooLargeFile

_PIECE = 1 << 20
_NEAR_NAMES = 2000
_NEAR = 3
_SHOWN_CHARACTERS = 50


@dataclass(frozen=True, slots=True)
class Caps:
    """How much is brought home at most; ``depth`` in folders, ``names`` looked at, ``refused`` listed one by one."""

    file_bytes: int = 10 << 30
    total_bytes: int = 10 << 30
    files: int = 10_000
    depth: int = 100
    names: int = 1_000_000
    refused: int = 100


@dataclass(frozen=True, slots=True)
class CollectedFile:
    """A file that came home: its name in the result, and the copy of it on the node. Files may share a copy."""

    path: str
    local: Path
    size: int
    sha256: str
    executable: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A name that matched but was left behind, and why."""

    path: str
    why: str

    def __str__(self) -> str:
        """The end of a long path is enough to find it, and leaves room for the reason in a sentence."""
        path = self.path if len(self.path) <= _SHOWN_CHARACTERS else f"...{self.path[-_SHOWN_CHARACTERS:]}"
        return f"{path} {self.why}"


@dataclass(frozen=True, slots=True)
class Collected:
    """All that came of the rules; ``missing`` lists the required ones for which nothing came home.

    ``too_large`` are those of the refused that are larger than any one file may be.
    """

    files: tuple[CollectedFile, ...] = ()
    missing: tuple[MissingOutput, ...] = ()
    refused: tuple[Refused, ...] = ()
    too_large: tuple[TooLargeFile, ...] = ()


def collect(root: Path, rules: Sequence[CollectRule], *, into: Path, caps: Caps) -> Collected:
    """Copy the files that ``rules`` match below ``root`` into the new folder ``into``.

    Names that are not clean UTF-8 are written with ``%FF`` in the result. Two rules may bring one file home under two
    names; of two files with one name the first (by its path) wins. NodeFault ``node_disk``: no room for the copies.
    """
    if not rules:
        return Collected()
    collection = _Collection(rules, into, caps)
    into.mkdir(parents=True, exist_ok=True)
    patterns = [Pattern(rule.glob) for rule in rules]
    for found in Walk(root, patterns, depth=caps.depth, most_names=caps.names, refuse=collection.refuse):
        if len(collection.files) >= caps.files:
            collection.refuse(found.path, f"is left out with all that follow: more than {caps.files} files")
            break
        collection.add(found)
    missing = [rule.glob for number, rule in enumerate(rules) if rule.required and number not in collection.satisfied]
    names = _names(root, caps) if missing else []
    return Collected(
        tuple(collection.files),
        tuple(MissingOutput(glob=glob, near=_near(glob, names)) for glob in missing),
        tuple(collection.refused_list()),
        tuple(collection.too_large),
    )


@dataclass(slots=True)
class _Collection:
    rules: Sequence[CollectRule]
    into: Path
    caps: Caps
    files: list[CollectedFile] = field(default_factory=list)
    satisfied: set[int] = field(default_factory=set)
    too_large: list[TooLargeFile] = field(default_factory=list)
    _refused: list[Refused] = field(default_factory=list)
    _refused_count: int = 0
    _names: set[str] = field(default_factory=set)
    _folders: set[str] = field(default_factory=set)
    _total: int = 0

    def refuse(self, path: str, reason: str) -> None:
        self._refused_count += 1
        if len(self._refused) < self.caps.refused:
            self._refused.append(Refused(clean(path), reason))

    def refused_list(self) -> list[Refused]:
        more = self._refused_count - len(self._refused)
        return [*self._refused, Refused(f"{more} more", "were refused")] if more else self._refused

    def add(self, found: Found) -> None:
        names = {self.rules[number].name_for(clean(found.path)): number for number in reversed(found.patterns)}
        for name in list(names):
            reason = self._taken(name)
            if reason:
                self.refuse(found.path, reason)
                del names[name]
        if not names:
            return
        try:
            copy = self._copy(found)
        except Refusal as refusal:
            self.refuse(found.path, str(refusal))
            return
        self.satisfied.update(found.patterns)
        for name in names:
            self._names.add(name)
            self._folders.update(_folders(name))
            self.files.append(CollectedFile(name, *copy))

    def _taken(self, name: str) -> str:
        """Why a file cannot have this name in the result; empty when it can."""
        if len(name.encode()) > MAX_PATH_BYTES:
            return f"has a name longer than {MAX_PATH_BYTES} bytes"
        if name in self._names or name in self._folders or not self._names.isdisjoint(_folders(name)):
            return f"would be {name} in the result, as another file is"
        return ""

    def _note_too_large(self, path: str, size: int) -> None:
        if len(self.too_large) < self.caps.refused:
            self.too_large.append(TooLargeFile(path=clean(path), size=size, most=self.caps.file_bytes))

    def _copy(self, found: Found) -> tuple[Path, int, str, bool]:
        """Where the copy is, its size and hash, and whether the file may be executed."""
        source = open_beneath(found.folder, found.name)
        try:
            status = check_regular(source)
            if status.st_size > self.caps.file_bytes:
                self._note_too_large(found.path, status.st_size)
            most = min(self.caps.file_bytes, self.caps.total_bytes - self._total)
            if status.st_size > most:
                raise Refusal(f"has {status.st_size} bytes; {most} may still be collected")
            local = self.into / f"{len(self.files):06d}"
            size, digest = _copy_hashing(source, local, most)
        finally:
            os.close(source)
        self._total += size
        return local, size, digest, bool(status.st_mode & 0o100)


def clean(path: str) -> str:
    """The path in clean UTF-8: bytes that are none, control characters and backslashes as ``%FF``, ``%0A``, ``%5C``."""
    if path.isprintable() and path.isascii() and "\\" not in path:
        return path
    text = "".join(f"%{ord(char):02X}" if ord(char) < 32 or ord(char) in (92, 127) else char for char in path)
    return "".join(f"%{ord(char) & 0xFF:02X}" if "\udc80" <= char <= "\udcff" else char for char in text)


def _copy_hashing(source: int, local: Path, most: int) -> tuple[int, str]:
    """Copy an open file; answers its size and SHA-256. Refusal: it cannot be read, or grows beyond ``most``."""
    digest, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_PIECE))
    try:
        with local.open("xb") as copy:
            while count := _read(source, buffer):
                size += count
                if size > most:
                    raise Refusal(f"grew beyond {most} bytes while it was read")
                digest.update(buffer[:count])
                copy.write(buffer[:count])
    except OSError as error:
        raise NodeFault("node_disk", f"cannot keep a copy in {local}: {error.strerror}") from error
    except Refusal:
        local.unlink()
        raise
    return size, digest.hexdigest()


def _read(source: int, buffer: memoryview) -> int:
    try:
        return os.readv(source, [buffer])
    except OSError as error:
        raise Refusal(f"cannot be read: {error.strerror}") from error


def _folders(name: str) -> list[str]:
    """The folders that a name lies in: ``a`` and ``a/b`` for ``a/b/c``."""
    return [name[:end] for end, char in enumerate(name) if char == "/"]


def _names(root: Path, caps: Caps) -> list[str]:
    """Some of the names that do exist, for the hints."""
    walk = Walk(root, [Pattern("**")], depth=caps.depth, most_names=_NEAR_NAMES, refuse=lambda path, why: None)
    return [clean(found.path) for found in walk]


def _near(glob: str, names: Sequence[str]) -> tuple[str, ...]:
    """The nearest names: those below a folder of that name, or else those elsewhere, or else those spelled alike."""
    last = glob.rpartition("/")[2]
    below = [name for name in names if name.startswith(f"{glob}/")]
    elsewhere = [name for name in names if name.rpartition("/")[2] == last]
    alike = difflib.get_close_matches(glob, names, n=_NEAR, cutoff=0.5)
    return tuple((below or elsewhere or alike)[:_NEAR])
