"""Writes ``docs/task-reference.md`` from the JSON Schema of ``task.json``; ``--check`` says whether it is current."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grid.core.conf import GridSettings
from tasks.retry import FINAL
from tasks.spec import json_schema
from tasks.units import format_duration, format_size, parse_duration, parse_size

TARGET = Path(__file__).resolve().parents[2] / "docs" / "task-reference.md"

Schema = Mapping[str, Any]

# What the parsers of texts take is a pattern in the schema; a text that only one of them takes tells which it is.
_SPELLINGS = (("64M", "size"), ("2min", "duration"), ("true", "true or false"), ("1.5", "number"))
_SECTIONS = {"Limits": "limits", "FileSpec": "a file", "CollectRule": "a rule", "Retry": "retry"}
_SIZES = ("64", "64K", "64M", "64MB", "64MiB", "1.5G")
_DURATIONS = ("5", "500ms", "5s", "2min", "1.5h", "1d", "2w")
_SIZE_LIMITS = {"memory", "swap", "storage", "output", "gpu_memory"}
_TIME_LIMITS = {"time", "cpu_time"}

_HEAD = """\
# The keys of task.json

<!-- Made by scripts/reference from the JSON Schema. Change the descriptions in tasks/, then run it again. -->

A task is a folder with a `task.json`. `grid schema` prints the JSON Schema that this page is made of; a running grid
serves it at `/api/v1/schema`, so a file may name it as its `"$schema"` and editors check and complete it.

An unknown key is refused, with the nearest known name. All faults of a task are told at once, each with its place. How
tasks end is told in [verdicts.md](verdicts.md), a walk through a first task in [tutorial.md](tutorial.md).
"""

_NOTES = """\
In this version:

- `runtime` knows one word, `docker`, and that runtime needs an `image`.
- `profile` is `standard` or `judge`; who may ask for `judge` is decided by operators, see
  [people.md](people.md#container-profiles).
- `callback_url` needs a secret of yours to sign with; see [api.md](api.md#webhooks).
- `secrets` are stored with `grid secret set NAME`. The container gets them as environment variables.
- `resources` are counted against `GRID_LICENCES` of the server, a JSON object such as `{"matlab": 2}`.
- A file named `kolejka_task.json` is read too, by the same rules.
"""

_FILES = """\
`files` says what is put into the task's folder before it runs. Its names are paths in that folder. Short spellings:
`null` is the file of the same name, a text is a path in the folder that you submit. Paths are relative and cannot climb
with `..`. Links are followed when the task is submitted, and a folder stands for everything in it. A task has at most
5000 files.
"""

_COLLECT = """\
Every rule of `collect` is applied after the program has ended, however it ended. Only regular files come back: links,
devices and pipes are left behind, and a task that succeeds names them in its advice. Of two files that would get one
name in the result, the first by its path wins.
"""

_LIMITS = """\
What a task asks is cut down to the server's caps (`GRID_MAX_LIMITS`). Where a task says nothing, the server's default
holds; the column shows those of a fresh grid (`GRID_DEFAULT_LIMITS` changes them). A task goes only to nodes that can
enforce every limit it asks for, those in `best_effort` excepted. Limits that were not enforced are listed in the result
as `not_enforced`.
"""


def document() -> str:
    """The whole page."""
    schema = json_schema()
    parts = schema["$defs"]
    blocks = [
        _HEAD,
        "## Keys\n\n" + _keys(schema) + "\n" + _NOTES,
        "## limits\n\n" + _LIMITS + "\n" + _limits(parts["Limits"]),
        "## files\n\n" + _FILES + "\n" + _keys(parts["FileSpec"]),
        "## collect\n\n" + _COLLECT + "\n" + _keys(parts["CollectRule"]),
        "## retry\n\n"
        + _prose(parts["Retry"]["description"])
        + "\n\n"
        + _keys(parts["Retry"])
        + "\n"
        + _retry_words(parts),
        "## Units\n\n" + _units(),
    ]
    return "\n".join(blocks)


def _keys(schema: Schema) -> str:
    required = schema.get("required", ())
    rows = [
        (f"`{name}`", kind(one), "required" if name in required else _default(one), one["description"], _example(one))
        for name, one in _described(schema).items()
    ]
    return table(("key", "type", "default", "meaning", "example"), rows)


def _described(schema: Schema) -> dict[str, Schema]:
    return {name: one for name, one in schema["properties"].items() if name != "$schema"}


def _limits(schema: Schema) -> str:
    rows = [
        (f"`{name}`", kind(one), _server_default(name), one["description"], _example(one))
        for name, one in schema["properties"].items()
    ]
    return table(("limit", "type", "server's default", "meaning", "example"), rows)


def _server_default(name: str) -> str:
    settings = GridSettings()
    if name == "network":
        return "allowed on request" if settings.allow_network else "not allowed"
    value = getattr(settings.default_limits, name)
    if value is None:
        return "none"
    if name in _SIZE_LIMITS:
        return f"`{format_size(value) if value else 0}`"
    return f"`{format_duration(value)}`" if name in _TIME_LIMITS else f"`{value:g}`"


def _retry_words(parts: Schema) -> str:
    words = parts["Retry"]["properties"]["on"]["items"]["enum"]
    listed = ", ".join(f"`{word}`" for word in words)
    finals = " and ".join(f"`{word}`" for word in words if word in FINAL)
    return f"Words for `on`: {listed}. {finals} are final all the same: another run would end alike.\n"


def kind(schema: Schema) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        section = _SECTIONS[schema["$ref"].rpartition("/")[2]]
        return f"[{section}](#{section})" if " " not in section else section
    if "anyOf" in schema:
        return _any_of(schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_plural(kind(schema['items']))}"
    if schema.get("type") == "object":
        return f"object of {_plural(kind(schema['additionalProperties']))}"
    return {"string": "text", "number": "number", "boolean": "true or false"}[schema["type"]]


def _any_of(choices: Iterable[Schema]) -> str:
    """A value with a pattern is one thing with several spellings: the pattern names it. Else the choices are named."""
    named = list(choices)
    pattern = next((one["pattern"] for one in named if "pattern" in one), None)
    if pattern is not None:
        word = next(word for text, word in _SPELLINGS if re.search(pattern, text))
        return " or ".join([word, *(kind(one) for one in named if one.get("type") == "array")])
    words = [kind(one) for one in named if one.get("type") not in ("null", "number")]
    return " or ".join(dict.fromkeys(words))


def _plural(words: str) -> str:
    plurals = {"text": "texts", "number": "numbers", "size": "sizes", "a file or text": "files", "a rule": "rules"}
    return plurals[words]


def _default(schema: Schema) -> str:
    value = schema.get("default")
    if value in (None, "", [], {}) or "$ref" in schema:
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{json.dumps(value)}`"


def _example(schema: Schema) -> str:
    return ", ".join(f"`{json.dumps(one, ensure_ascii=False)}`" for one in schema.get("examples", ()))


def _units() -> str:
    sizes = [(f'`"{text}"`', str(parse_size(text))) for text in _SIZES]
    times = [(f'`"{text}"`', f"{parse_duration(text):.15g}") for text in _DURATIONS]
    return (
        "Sizes are powers of 1024, however they are spelt. A bare number is bytes or seconds. Upper and lower case\n"
        'are the same. `"1m"` is refused: it could be a minute or a millisecond.\n\n'
        + table(("size", "bytes"), sizes)
        + "\n"
        + table(("duration", "seconds"), times)
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _prose(docstring: str) -> str:
    """A docstring's markup as Markdown's."""
    return docstring.replace("``", "`")


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def main(arguments: Sequence[str], target: Path = TARGET) -> int:
    """Write the page, or only look at it; returns the exit status."""
    wanted = document()
    if arguments == ["--check"]:
        if target.exists() and target.read_text(encoding="utf-8") == wanted:
            return 0
        print(f"{target.name} is out of date; run scripts/reference", file=sys.stderr)
        return 1
    target.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
