"""A task's description as the fields of a form and back: names, help and examples come from the schema of task.json.

A field holds text as people write it: a command as in a shell, ``KEY=VALUE`` lines, words, sizes with units. What has
no such spelling is JSON in the same field, so that every description can be shown and changed and nothing is lost.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tasks.errors import Fault
from tasks.limits import SIZE_PATTERN, TIME_PATTERN, Limits
from tasks.spec import json_schema
from tasks.units import format_duration, format_size

OTHER = "other"
"""The field for keys that are not known: they can be mended or taken out there."""

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What runs", ("image", "name", "args", "collect")),
    ("Limits", ("limits.memory", "limits.cpus", "limits.time", "limits.storage")),
    ("Files of the task", ("files", "stdin", "stdout", "stderr")),
    ("More limits", ("limits", "best_effort")),
    ("Environment", ("environment", "secrets")),
    (
        "Where and when",
        ("priority", "after", "expires", "singleton", "requires", "exclusive", "resources", "runtime", "profile"),
    ),
    ("Retry", ("retry",)),
    ("Labels and notices", ("labels", "callback_url")),
    ("Other keys", ()),
)
"""Which fields stand together, in their order; a key that is not named stands in the last group."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``name`` is the path of its key (``limits.memory``), ``kind`` how its text is read."""

    name: str
    kind: str
    help: str
    example: str = ""
    words: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The key in words."""
        return self.name.rpartition(".")[2].replace("_", " ").capitalize()


@cache
def fields() -> tuple[Field, ...]:
    """The fields of all keys, in the order of the schema."""
    return (*_fields_of(json_schema()), Field(OTHER, "json", "Keys of task.json that are not known here, as JSON."))


def grouped() -> list[tuple[str, list[Field]]]:
    """The fields in their groups."""
    left = {field.name: field for field in fields()}
    found: list[tuple[str, list[Field]]] = []
    for title, names in GROUPS:
        part = [left.pop(one) for name in names for one in list(left) if one == name or one.startswith(f"{name}.")]
        # "limits" takes what "limits.memory" has left, so that it has to come behind it.
        found.append((title, part if names else list(left.values())))
    return found


def texts_of(spec: Mapping[str, object]) -> dict[str, str]:
    """The texts of the fields that say the same as a description, whether that is sound or not."""
    found: dict[str, str] = {}
    rest = {key: value for key, value in spec.items() if key != "$schema"}
    for field in fields():
        outer, _, inner = field.name.partition(".")
        holder = rest.get(outer)
        if inner and isinstance(holder, Mapping) and inner in holder:
            text = _text_of(field, holder[inner])
            rest[outer] = {key: value for key, value in holder.items() if key != inner}
        elif not inner and outer in rest:
            text = _text_of(field, rest.pop(outer))
        else:
            continue
        if text:
            found[field.name] = text
    nested = {field.name.partition(".")[0] for field in fields() if "." in field.name}
    rest = {key: value for key, value in rest.items() if value or key not in nested}
    return found | ({OTHER: _json(rest)} if rest else {})


def limit_texts(limits: Limits) -> dict[str, str]:
    """The limits that are set as people write them, by their names."""
    texts = texts_of({"limits": limits.model_dump(mode="json", exclude_none=True)})
    return {name.removeprefix("limits."): text for name, text in texts.items()}


def description_of(texts: Mapping[str, str], base: Mapping[str, object]) -> tuple[dict[str, object], list[Fault]]:
    """The description that the fields say, on top of ``base``; and what in the texts cannot be read."""
    made: dict[str, object] = dict(base)
    faults: list[Fault] = []
    for field in fields():
        text = texts.get(field.name, "").replace("\r\n", "\n")
        if not text.strip():
            continue
        try:
            value = _READ[field.kind](text)
        except ValueError as error:
            faults.append(Fault(field.name, *_what_and_how(error)))
            continue
        outer, _, inner = field.name.partition(".")
        if field.name == OTHER:
            made = _merged(made, value)
        elif inner:
            holder = made.get(outer)
            made[outer] = {**(holder if isinstance(holder, Mapping) else {}), inner: value}
        else:
            made[outer] = value
    return made, faults


def field_of(path: str) -> str:
    """The name of the field where a fault at this path is mended; empty when it belongs to none."""
    names = {field.name for field in fields()}
    for name in sorted(names, key=len, reverse=True):
        if path == name or path.startswith((f"{name}.", f"{name}[")):
            return name
    return next((field.name for field in fields() if path and field.name.startswith(f"{path}.")), "")


# -------------------------------------------------------------------------------------------------------------- schema
def _fields_of(schema: Mapping[str, Any], prefix: str = "") -> Iterator[Field]:
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    for name, one in schema["properties"].items():
        if name.startswith("$"):
            continue
        record = next((definitions[ref] for ref in _references(one) if ref in definitions), None)
        if record is not None:
            yield from _fields_of(record, f"{name}.")
            continue
        kind = "files" if name == "files" and not prefix else _kind(one)
        field = Field(prefix + name, kind, one.get("description", ""), words=_words(one))
        examples = [text for example in one.get("examples", ()) if (text := _text_of(field, example))]
        yield Field(field.name, kind, field.help, " or ".join(examples) if kind in _SHORT else "", field.words)


def _references(one: Mapping[str, Any]) -> list[str]:
    """The records that a key holds by itself, not those in its items."""
    ways = [one, *one.get("anyOf", ())]
    return [way["$ref"].rpartition("/")[2] for way in ways if "$ref" in way]


def _kind(one: Mapping[str, Any]) -> str:
    ways = [one, *one.get("anyOf", ())]
    types = {way.get("type") for way in ways}
    if one.get("type") == "array":
        if "$ref" in one["items"]:
            return "rules"
        return "command" if one["items"].get("anyOf") and one.get("maxItems", 0) > 1000 else "words"
    if one.get("type") == "object":
        return "pairs"
    if "boolean" in types:
        return "switch"
    if "array" in types:
        return "mixed"
    patterns = {way.get("pattern") for way in ways}
    return "size" if SIZE_PATTERN in patterns else "time" if TIME_PATTERN in patterns else "line"


def _words(one: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(one.get("items", {}).get("enum", ())) if one.get("type") == "array" else ()


# --------------------------------------------------------------------------------------------------------- from a text
def _read_json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None
    return value


def _or_json(read: Callable[[str], object]) -> Callable[[str], object]:
    """As ``read``, but a text that begins like a JSON list or object is that."""
    return lambda text: _read_json(text) if text.lstrip().startswith(("[", "{")) else read(text)


def _shell(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"cannot be read as a command: {str(error).lower()}; close every quotation mark") from None


def _read_command(text: str) -> object:
    # "[" is a program, too.
    try:
        value: object = json.loads(text)
    except ValueError:
        return _shell(text)
    return value if isinstance(value, list) else _shell(text)


def _read_words(text: str) -> list[str]:
    return [word.removesuffix(",") for word in _shell(text) if word != ","]


def _read_pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise ValueError(f'has no "=" in line {number}; write KEY=VALUE, one in a line')
        if key.strip() in found:
            raise ValueError(f'names "{key.strip()}" twice; leave one of them out')
        found[key.strip()] = value
    return found


def _read_files(text: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        name, equals, source = line.partition("=")
        found[name.strip()] = source.strip() if equals else None
    return found


def _read_rules(text: str) -> list[dict[str, str]]:
    return [{"glob": line} for line in map(str.strip, text.split("\n")) if line]


_READ: dict[str, Callable[[str], object]] = {
    "line": str.strip,
    "size": str.strip,
    "time": str.strip,
    "switch": str.strip,
    "mixed": _or_json(str.strip),
    "command": _read_command,
    "words": _or_json(_read_words),
    "pairs": _or_json(_read_pairs),
    "files": _or_json(_read_files),
    "rules": _or_json(_read_rules),
    "json": _read_json,
}
_ONE_LINE = 60
_SHORT = ("line", "size", "time", "mixed", "command", "words", "pairs", "rules")


# ----------------------------------------------------------------------------------------------------------- to a text
def _text_of(field: Field, value: object) -> str:
    """The text of a value; JSON where the shorter spelling would be read as something else."""
    if value is None:
        return ""
    text = _short(field.kind, value)
    if text is not None:
        try:
            if _plain(_READ[field.kind](text)) == _plain(value) or field.kind in ("size", "time"):
                return text
        except ValueError:
            pass
    if isinstance(value, Mapping | list | tuple):
        return _json(value) if value else ""
    return str(value)


def _json(value: object) -> str:
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= _ONE_LINE else json.dumps(value, ensure_ascii=False, indent=1)


def _short(kind: str, value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(kind, value)
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        if kind in ("command", "words"):
            return shlex.join(str(_plain(one)) for one in value)
        if kind == "rules" and all(isinstance(one, Mapping) and set(one) == {"glob"} for one in value):
            return "\n".join(str(one["glob"]) for one in value)
    if isinstance(value, Mapping):
        if kind == "files" and all(one is None or isinstance(one, str) for one in value.values()):
            return "\n".join(name if source is None else f"{name}={source}" for name, source in value.items())
        if kind == "pairs":
            return "\n".join(f"{key}={_plain(one)}" for key, one in value.items())
    return None


def _number(kind: str, value: float) -> str:
    if kind == "size" and isinstance(value, int) and value > 0:
        return format_size(value)
    if kind == "time" and value >= 0:
        return format_duration(value)
    short = f"{value:g}"
    return short if "e" not in short and float(short) == value else str(value)


def _plain(value: object) -> object:
    """A value with its numbers and truths as the texts that mean the same."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number("line", value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _merged(made: dict[str, object], other: object) -> dict[str, object]:
    """The description with keys that have no field; parts of a record are put beside its other parts."""
    if not isinstance(other, Mapping):
        return {**made, OTHER: other}
    merged = dict(made)
    for key, value in other.items():
        known = merged.get(key)
        merged[key] = {**known, **value} if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged


def _what_and_how(error: ValueError) -> tuple[str, str]:
    what, _, how = str(error).partition("; ")
    return what, how
