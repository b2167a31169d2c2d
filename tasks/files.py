"""Files of a task: which go in under what name, and which come back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tasks.limits import NumberInput, Switch
from tasks.model import Record
from tasks.units import parse_whole

MAX_FILES = 5000
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
MAX_CONTENT_BYTES = 1024**2

_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def normal_path(text: str) -> str:
    """A relative path in its one normal spelling: ``./a//b/`` is ``a/b``.

    Raises ValueError for a path that is absolute, climbs with ``..``, names nothing, or is no file name everywhere.
    """
    if "\\" in text:
        raise ValueError("has a backslash; write / between folders")
    if text.startswith("/"):
        raise ValueError("is absolute; write a path relative to the task folder")
    check_text(text)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts:
        raise ValueError("names no file")
    if ".." in parts:
        raise ValueError('has a "..", which would leave the task folder')
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise ValueError(f"has a name longer than {MAX_NAME_BYTES} bytes")
    path = "/".join(parts)
    if len(path.encode()) > MAX_PATH_BYTES:
        raise ValueError(f"is longer than {MAX_PATH_BYTES} bytes")
    return path


def check_text(text: str) -> str:
    """The same text; ValueError when it has a control character or is not valid Unicode."""
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError("has a control character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode (a lone surrogate)") from None
    return text


def expand_files(value: object) -> object:
    """The short spellings of ``files`` written out: null is the file of the same name, a text is a path.

    Names are brought to their normal spelling where they have one. ValueError when there are too many, or when two
    spellings name one file (``a`` and ``./a``).
    """
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_FILES:
        raise ValueError(
            f"has {len(value)} entries; the most is {MAX_FILES}, pack them into an archive or name a folder"
        )
    expanded: dict[object, object] = {}
    for name, source in value.items():
        plain = _spelled(name)
        if plain in expanded:
            raise ValueError(f'names "{plain}" twice')
        if source is None and isinstance(plain, str):
            # Already checked as a name, so that one fault is not told twice.
            source = FileSpec.model_construct(path=plain)
        expanded[plain] = {"path": source} if isinstance(source, str) else source
    return expanded


def covers(names: Iterable[str], path: str) -> bool:
    """True when ``path`` is one of the names or lies in a folder of that name."""
    return any(path == name or path.startswith(f"{name}/") for name in names)


def clashes(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names of which the first would have to be a file and a folder at once: ``a`` and ``a/b``."""
    known = set(names)
    return [
        (folder, name)
        for name in sorted(known)
        for end in range(len(name))
        if name[end] == "/" and (folder := name[:end]) in known
    ]


def _spelled(name: object) -> object:
    """The normal spelling; a name that has none is left for the validator of names to complain about."""
    if not isinstance(name, str):
        return name
    try:
        return normal_path(name)
    except ValueError:
        return name


def _folder(text: str) -> str:
    return "" if text in ("", ".", "./") else normal_path(text)


def _strip(value: object) -> int:
    return parse_whole(value, 0, 100)


def _content(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode (a lone surrogate)") from None
    if size > MAX_CONTENT_BYTES:
        raise ValueError(f"is {size} bytes long, the most is {MAX_CONTENT_BYTES}; put it into a file of the folder")
    return text


def _reference(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise ValueError("is not the sha256 of a stored blob (64 hexadecimal digits)")
    return text.lower()


TaskPath = Annotated[str, AfterValidator(normal_path)]


class FileSpec(Record):
    """Where the content of one input file comes from: exactly one of ``path``, ``reference`` and ``content``."""

    path: TaskPath | None = Field(
        default=None, description="File (or folder) in the task folder at submit.", examples=["data/input.txt"]
    )
    reference: Annotated[str, AfterValidator(_reference)] | None = Field(
        default=None, description="The sha256 of a blob that the grid already stores, 64 hexadecimal digits."
    )
    content: Annotated[str, AfterValidator(_content)] | None = Field(
        default=None, description="The text of the file itself, at most 1 MiB.", examples=["3 4\n"]
    )
    executable: Switch | None = Field(
        default=None,
        description="Whether the file may be run; without it the file keeps the mode it has in the folder.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.path, self.reference, self.content)) != 1:
            raise ValueError('needs exactly one of "path", "reference" and "content"')
        return self


class CollectRule(Record):
    """What to bring back after the run: the regular files that ``glob`` matches in the task folder."""

    glob: TaskPath = Field(
        description="Pattern of names in the task folder; ** stands for any number of folders.", examples=["out/**"]
    )
    strip: Annotated[int, BeforeValidator(_strip, json_schema_input_type=NumberInput)] = Field(
        default=0, description="How many leading folders to drop from the name; the file's own name always stays."
    )
    prefix: Annotated[str, AfterValidator(_folder)] = Field(
        default="", description="Folder of the result to put the files into.", examples=["run1"]
    )
    required: Switch = Field(default=False, description="True when it is a failure of the task if nothing matches.")

    def name_for(self, path: str) -> str:
        """The name in the result of the file ``path`` (relative to the task folder)."""
        parts = path.split("/")
        kept = parts[min(self.strip, len(parts) - 1) :]
        return "/".join([self.prefix, *kept] if self.prefix else kept)
