"""Reading a task folder: its description, the files it names, and every fault of both at once."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import Fault, SpecError
from tasks.files import MAX_FILES, FileSpec, check_text, expand_files, normal_path
from tasks.spec import TaskSpec, parse_json, parse_spec

SPEC_NAMES = ("task.json", "kolejka_task.json")
MAX_SPEC_BYTES = 4 * 1024**2
MAX_DEPTH = 64
CHUNK_BYTES = 1024**2
INLINE_FILE_BYTES = 64 * 1024
INLINE_TOTAL_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the submitter says on top of the description in the folder; ``limits`` are in the units of ``task.json``.

    ``description`` stands in place of the one in the folder.
    """

    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, object] = field(default_factory=dict)
    description: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to send, as it was when it was hashed; ``content`` is kept of small ones."""

    shown: str
    path: Path
    sha256: str
    size: int
    executable: bool
    stamp: tuple[int, int, int, int]
    content: bytes | None = None

    def chunks(self) -> Iterator[bytes]:
        """The content. Raises SpecError when the file is no longer the one that was hashed."""
        if self.content is not None:
            yield self.content
            return
        with _Opened(self.path, self.shown) as descriptor:
            digest = hashlib.sha256()
            for chunk in _read(descriptor, self.shown):
                digest.update(chunk)
                yield chunk
            if _stamp(os.fstat(descriptor)) != self.stamp or digest.hexdigest() != self.sha256:
                raise SpecError([_changed(self.shown)])


@dataclass(frozen=True, slots=True)
class Package:
    """A task ready to be sent: a description whose files are references, and the contents by sha256."""

    name: str
    spec: dict[str, object]
    files: Mapping[str, LocalFile]


def read_folder(task_dir: str | os.PathLike[str], overrides: Overrides | None = None) -> Package:
    """The task in the folder ``task_dir``. Raises SpecError with all faults of its description and of its files."""
    folder = Path(os.fsdecode(task_dir))
    wanted = overrides or Overrides()
    given = _description(folder) if wanted.description is None else dict(wanted.description)
    raw = _merged(given, wanted)
    name = _name_of(folder)
    faults: list[Fault] = []
    spec: TaskSpec | None = None
    try:
        spec = parse_spec(raw, default_name=name)
    except SpecError as error:
        faults += error.faults
    found, file_faults = _Finder(folder).find(sources_of(raw.get("files")))
    told = {fault.path for fault in faults}
    faults += [fault for fault in file_faults if fault.path not in told]
    if faults or spec is None:
        raise SpecError(faults)
    return _packed(name, raw, spec, found)


def read_file(path: str | os.PathLike[str]) -> LocalFile:
    """One file with its hash. Raises SpecError when it cannot be read."""
    return _local(Path(os.fsdecode(path)), _printable(os.fsdecode(path)))


def _packed(name: str, raw: dict[str, object], spec: TaskSpec, found: Mapping[str, Mapping[str, LocalFile]]) -> Package:
    files: dict[str, object] = {}
    for dest, source in spec.files.items():
        if source.path is None and dest not in files:
            files[dest] = source.model_dump(mode="json", exclude_none=True)
        for path, local in found.get(dest, {}).items():
            if path in files:
                raise SpecError([Fault(f"files.{path}", "is named by two entries of files", "leave one of them out")])
            files[path] = {"reference": local.sha256, "executable": _mode(source, local)}
    if len(files) > MAX_FILES:
        raise SpecError([_too_many()])
    if files:
        raw = raw | {"files": files}
    return Package(name, raw, {one.sha256: one for tree in found.values() for one in tree.values()})


def _mode(source: FileSpec, local: LocalFile) -> bool:
    return local.executable if source.executable is None else source.executable


def _description(folder: Path) -> dict[str, object]:
    """The JSON object in the folder. Raises SpecError."""
    try:
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise SpecError([Fault("", f"{_printable(folder)} {what}", "name a folder that has a task.json")])
        path = next((folder / name for name in SPEC_NAMES if os.path.lexists(folder / name)), None)
    except (OSError, ValueError) as error:
        raise SpecError([Fault("", f"cannot read {_printable(folder)}: {_why(error)}")]) from error
    if path is None:
        raise SpecError(
            [Fault("", f"{_printable(folder)} has no task.json", "write one; `grid schema` shows all its keys")]
        )
    local = _local(path, path.name)
    if local.size > MAX_SPEC_BYTES:
        raise SpecError(
            [Fault(path.name, f"is larger than {MAX_SPEC_BYTES} bytes", "put contents into files of the folder")]
        )
    return parse_json(b"".join(local.chunks()))


def _merged(raw: dict[str, object], overrides: Overrides) -> dict[str, object]:
    """The description with the submitter's own words on top; what is no object is left for the parser to refuse."""
    merged = dict(raw)
    if overrides.name is not None:
        merged["name"] = overrides.name
    for key, given in (("labels", overrides.labels), ("limits", overrides.limits)):
        stored = raw.get(key, {})
        if given and isinstance(stored, dict):
            merged[key] = stored | dict(given)
    return merged


def sources_of(files: object) -> dict[str, str]:
    """Name in the task -> path in the task folder, of those entries that can be understood, whatever else is wrong."""
    try:
        expanded = expand_files(files)
    except ValueError:
        return {}
    if not isinstance(expanded, Mapping):
        return {}
    sources: dict[str, str] = {}
    for dest, one in expanded.items():
        path = one.path if isinstance(one, FileSpec) else one.get("path") if isinstance(one, Mapping) else None
        try:
            if isinstance(dest, str) and isinstance(path, str):
                sources[normal_path(dest)] = normal_path(path)
        except ValueError:
            continue
    return sources


class _Finder:
    """Finds and hashes the files of one folder; counts them, and gathers faults."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._faults: list[Fault] = []
        self._count = 0
        self._kept_bytes = 0

    def find(self, sources: Mapping[str, str]) -> tuple[dict[str, dict[str, LocalFile]], list[Fault]]:
        """For each name in the task the files that it stands for, and what is wrong with them."""
        found: dict[str, dict[str, LocalFile]] = {}
        listed: dict[str, dict[str, Path]] = {}
        for dest, path in sources.items():
            listed[dest] = dict(self._listed(f"files.{dest}", dest, self._folder / path))
            if self._count > MAX_FILES:
                return {}, [*self._faults, _too_many()]
        for dest, tree in listed.items():
            found[dest] = {
                name: local for name, path in tree.items() if (local := self._hashed(name, path)) is not None
            }
        return found, self._faults

    def _listed(self, shown: str, dest: str, path: Path) -> Iterator[tuple[str, Path]]:
        """The regular files at ``path``, followed through links; faults are noted."""
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                before = self._count
                yield from self._tree(shown, dest, path, ((status.st_dev, status.st_ino),))
                if self._count == before and not self._faults:
                    self._note(shown, "is a folder without files")
            elif stat.S_ISREG(status.st_mode):
                self._count += 1
                yield dest, path
            else:
                self._note(shown, f"is {_kind(status.st_mode)}, not a file", "only files and folders can be sent")
        except OSError as error:
            self._note(shown, _missing(path, error))

    def _tree(
        self, shown: str, dest: str, folder: Path, parents: tuple[tuple[int, int], ...]
    ) -> Iterator[tuple[str, Path]]:
        if len(parents) > MAX_DEPTH:
            self._note(shown, f"has folders nested deeper than {MAX_DEPTH}")
            return
        for entry in sorted(os.scandir(folder), key=lambda one: one.name):
            if self._count > MAX_FILES:
                return
            inner = f"{shown}/{_printable(entry.name)}"
            if not self._fine_name(inner, entry.name):
                continue
            status = self._status(inner, Path(entry.path))
            if status is None:
                continue
            here = (status.st_dev, status.st_ino)
            if not stat.S_ISDIR(status.st_mode):
                yield from self._listed(inner, f"{dest}/{entry.name}", Path(entry.path))
            elif here in parents:
                self._note(inner, "is a link to a folder around it, which never ends")
            else:
                yield from self._tree(inner, f"{dest}/{entry.name}", Path(entry.path), (*parents, here))

    def _status(self, shown: str, path: Path) -> os.stat_result | None:
        try:
            return path.stat()
        except OSError as error:
            self._note(shown, _missing(path, error))
            return None

    def _fine_name(self, shown: str, name: str) -> bool:
        try:
            check_text(name)
            normal_path(name)
        except ValueError as error:
            self._note(shown, f"the name {error}")
            return False
        return True

    def _hashed(self, name: str, path: Path) -> LocalFile | None:
        try:
            local = _local(path, f"files.{name}", INLINE_TOTAL_BYTES - self._kept_bytes)
        except SpecError as error:
            self._faults += error.faults
            return None
        self._kept_bytes += len(local.content or b"")
        return local

    def _note(self, shown: str, message: str, hint: str = "") -> None:
        self._faults.append(Fault(shown, message, hint))


class _Opened:
    """A descriptor of a regular file, open for reading. Raises SpecError."""

    def __init__(self, path: Path, shown: str) -> None:
        try:
            # A FIFO that took the file's place must not make us wait for a writer.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SpecError([Fault(shown, _missing(path, error))]) from error

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _local(path: Path, shown: str, keep_bytes: int = 0) -> LocalFile:
    """The file with its hash; its content is kept when it is small and fits into ``keep_bytes``. Raises SpecError."""
    with _Opened(path, shown) as descriptor:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise SpecError([Fault(shown, f"is {_kind(before.st_mode)}, not a file")])
        keep = before.st_size <= min(INLINE_FILE_BYTES, keep_bytes)
        kept: list[bytes] = []
        digest = hashlib.sha256()
        size = 0
        for chunk in _read(descriptor, shown):
            digest.update(chunk)
            size += len(chunk)
            if keep:
                kept.append(chunk)
        if size != before.st_size or _stamp(os.fstat(descriptor)) != _stamp(before):
            raise SpecError([_changed(shown)])
    executable = bool(before.st_mode & stat.S_IXUSR)
    return LocalFile(
        shown, path, digest.hexdigest(), size, executable, _stamp(before), b"".join(kept) if keep else None
    )


def _read(descriptor: int, shown: str) -> Iterator[bytes]:
    try:
        while chunk := os.read(descriptor, CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise SpecError([Fault(shown, f"cannot be read: {_why(error)}")]) from error


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _changed(shown: str) -> Fault:
    return Fault(shown, "changed while it was being read", "submit again when nothing writes to it")


def _too_many() -> Fault:
    return Fault("files", f"are more than {MAX_FILES}", "pack them into an archive and unpack it in the task")


def _missing(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is a link to nothing" if path.is_symlink() else "there is no such file in the task folder"
    return f"cannot be read: {_why(error)}"


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((kind for test, kind in kinds if test(mode)), "a device")


def _name_of(folder: Path) -> str:
    """The folder's name as text; links and ``.`` are resolved."""
    return _printable(folder.resolve().name) or "task"


def _printable(name: str | Path) -> str:
    """A name to show: bytes that are not UTF-8 and control characters are escaped."""
    text = os.fsencode(str(name)).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
