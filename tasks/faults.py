"""pydantic's complaints about a task description, in words that say where, what and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from tasks.errors import Fault
from tasks.words import printable, shown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_EXPECTED = {
    "string_type": "a text",
    "dict_type": "an object",
    "mapping_type": "an object",
    "model_type": "an object",
    "tuple_type": "a list",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a word nobody knows: ``did you mean "memory"?``, or the list of the known ones."""
    words = tuple(known)
    close = difflib.get_close_matches(word.lower()[:100], words, n=1)
    return f'did you mean "{close[0]}"?' if close else "known are: " + ", ".join(words)


def where(location: Iterable[int | str]) -> str:
    """The path of a fault as people write it: ``collect[1].glob``, ``files.a/b.txt``."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return printable(path)


def faults_of(error: ValidationError, model: type[BaseModel], parts: Mapping[str, type[BaseModel]]) -> list[Fault]:
    """Every complaint as a fault. ``parts`` are the records under the keys of ``model``, to know their keys."""
    return [_fault(detail, model, parts) for detail in error.errors(include_url=False)]


def _fault(detail: ErrorDetails, model: type[BaseModel], parts: Mapping[str, type[BaseModel]]) -> Fault:
    location = tuple(step for step in detail["loc"] if step != "[key]")
    kind = detail["type"]
    if kind == "extra_forbidden":
        holder = model if len(location) == 1 else parts[str(location[0])]
        known = [field.alias or name for name, field in holder.model_fields.items()]
        return Fault(where(location), "unknown key", nearest(str(location[-1]), known))
    if kind == "value_error":
        message, _, hint = _sentence(detail["ctx"]).rpartition("; ")
        return Fault(where(location), message or hint, hint if message else "")
    if kind in _EXPECTED:
        expected = (
            "a path, null or an object" if detail.get("ctx", {}).get("class_name") == "FileSpec" else _EXPECTED[kind]
        )
        return Fault(where(location), f"must be {expected}, not {shown(detail['input'])}")
    if kind == "missing":
        return Fault(where(location), "is missing")
    return Fault(where(location), detail["msg"][:1].lower() + detail["msg"][1:])


def _sentence(context: Mapping[str, Any]) -> str:
    return printable(str(context["error"]))
