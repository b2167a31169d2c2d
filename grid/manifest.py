"""A task folder that lies elsewhere, known by the names, sizes and hashes of its files: what of it a task takes in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from grid.folder import SPEC_NAMES, sources_of
from tasks.errors import Fault, SpecError
from tasks.files import MAX_FILES, TaskPath
from tasks.model import Record


def _digest(text: str) -> str:
    if text and (len(text) != 64 or set(text) - set("0123456789abcdef")):
        raise ValueError("is no sha256")
    return text


class Listed(Record):
    """One file of the folder; ``sha256`` is empty until somebody has hashed it."""

    path: TaskPath
    size: Annotated[int, Field(ge=0)] = 0
    sha256: Annotated[str, AfterValidator(_digest)] = ""
    executable: bool = False


_LISTED = TypeAdapter(Annotated[tuple[Listed, ...], Field(max_length=4 * MAX_FILES)])


@dataclass(frozen=True, slots=True)
class Packed:
    """A description whose files are references as far as their hashes are known, and the files that it takes in."""

    spec: dict[str, object]
    taken: tuple[Listed, ...] = ()
    faults: tuple[Fault, ...] = field(default=())


def read_listed(text: str) -> tuple[Listed, ...]:
    """The files that a browser tells of. Raises SpecError."""
    try:
        found = _LISTED.validate_json(text) if text else ()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = found_at(first["loc"], text)
        raise SpecError([Fault(at, first["msg"].removeprefix("Value error, "), "leave it out of the folder")]) from None
    twice = {one.path for one in found}
    if len(twice) < len(found):
        raise SpecError([Fault("files", "a file is named twice", "choose the files again")])
    return found


def found_at(location: Sequence[int | str], text: str) -> str:
    """The path of a fault in the list: the name of the file, where it has one."""
    try:
        rows: Any = TypeAdapter(list[dict[str, Any]]).validate_json(text)
        return f"files.{str(rows[int(location[0])]['path'])[:200]}"
    except (ValidationError, ValueError, LookupError):
        return "files"


def everything(listed: Collection[Listed]) -> dict[str, None]:
    """The ``files`` of a description that takes in all there is."""
    return {one.path: None for one in listed if one.path not in SPEC_NAMES}


def pack(raw: Mapping[str, object], listed: Sequence[Listed]) -> Packed:
    """Put references to the files into a description; what it names and is not there is a fault."""
    known = {one.path: one for one in listed}
    given = raw.get("files")
    files: dict[str, object] = dict(given) if isinstance(given, Mapping) else {}
    taken: dict[str, Listed] = {}
    faults: list[Fault] = []
    for dest, path in sources_of(given).items():
        tree = _tree(dest, path, known)
        if not tree:
            faults.append(Fault(f"files.{dest}", "there is no such file among those you chose", f"add {path}"))
            continue
        files = {name: one for name, one in files.items() if name.strip("./") != dest and name != dest}
        files |= {name: _reference(one, given, dest) for name, one in tree.items()}
        taken |= {one.path: one for one in tree.values()}
    if len(files) > MAX_FILES:
        faults.append(Fault("files", f"are more than {MAX_FILES}", "pack them into an archive"))
    spec = {**raw, "files": files} if files else dict(raw)
    return Packed(spec, tuple(taken.values()), tuple(faults))


def _tree(dest: str, path: str, known: Mapping[str, Listed]) -> dict[str, Listed]:
    """The files that an entry stands for, under their names in the task."""
    if path in known:
        return {dest: known[path]}
    inside = f"{path}/"
    return {f"{dest}/{name.removeprefix(inside)}": one for name, one in known.items() if name.startswith(inside)}


def _reference(one: Listed, given: object, dest: str) -> dict[str, object]:
    said = given.get(dest) if isinstance(given, Mapping) else None
    mode = said.get("executable") if isinstance(said, Mapping) else None
    source: dict[str, object] = {"reference": one.sha256} if one.sha256 else {"path": one.path}
    return {**source, "executable": one.executable if mode is None else mode}
