"""The description of a task: every key of ``task.json``, and the parser that reports all its faults at once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from tasks.errors import Fault, SpecError
from tasks.faults import faults_of
from tasks.fields import MAX_WORD, one_of, unique, whole
from tasks.files import CollectRule, FileSpec, TaskPath, check_text, clashes, covers, expand_files
from tasks.jsontext import parse_json
from tasks.limits import LIMIT_NAMES, Limits, PositiveCount, PositiveSeconds, Switch
from tasks.model import Record
from tasks.profiles import PROFILES, Profile
from tasks.retryrule import RETRY_WORDS, Retry
from tasks.words import shown

__all__ = ["RETRY_WORDS", "Retry", "TaskSpec", "json_schema", "parse_json", "parse_spec", "spec_hash"]

MAX_ARG_BYTES = 128 * 1024
MAX_ITEMS = 1000

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
# The grammar of image references as the registries have it: [host[:port]/]path[:tag][@digest].
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@[a-z0-9+._-]+:[0-9a-fA-F]{{32,}})?",
    re.ASCII,
)


def _text(value: object) -> object:
    """Numbers in places of text (``"args": ["sleep", 1]``) are taken as they are written."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _argument(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode (a lone surrogate)") from None
    if size >= MAX_ARG_BYTES:
        raise ValueError(f"is {size} bytes long; the most is {MAX_ARG_BYTES - 1}")
    return text


def _word(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    if len(text) > MAX_WORD:
        raise ValueError(f"is longer than {MAX_WORD} characters")
    return check_text(text)


def _title(text: str) -> str:
    """A word that may be left empty."""
    return _word(text) if text else text


def _variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text) or len(text) > MAX_WORD:
        raise ValueError("is not a name of an environment variable; write letters, digits and _")
    return text


def _task_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("is not the id of a task")
    return text


def _runtime(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError("is not the name of a runtime; write docker")
    return text


def _image(text: str) -> str:
    if len(text) > 512 or not _IMAGE.fullmatch(text):
        raise ValueError(
            f'"{text[:MAX_WORD]}" is not an image; write a reference such as ubuntu:24.04 or host/team/image'
        )
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(check_text(text))
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("is not an address") from None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or not port_is_fine
        or " " in text
        or len(text) > 2000
    ):
        raise ValueError("is not an address; write https://host/path")
    return text


_Text = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | float), AfterValidator(_argument)]
_Word = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | float), AfterValidator(_word)]
_Title = Annotated[str, AfterValidator(_title)]
_Variable = Annotated[str, AfterValidator(_variable)]
_TaskId = Annotated[str, AfterValidator(_task_id)]
_LimitName = Annotated[
    str,
    AfterValidator(one_of(LIMIT_NAMES, "the name of a limit")),
    Field(json_schema_extra={"enum": list(LIMIT_NAMES)}),
]
_Files = Annotated[
    Mapping[TaskPath, FileSpec],
    BeforeValidator(expand_files, json_schema_input_type=Mapping[str, FileSpec | str | None]),
]


class TaskSpec(Record):
    """A task as its author describes it. Input takes units and short spellings, the record holds plain values."""

    name: _Title = Field(
        default="", description="Name for people; by default the task folder's.", examples=["week 3, exercise 2"]
    )
    labels: Mapping[_Word, _Text] = Field(
        default={},
        description="Free labels to find the task by.",
        examples=[{"course": "algorithms"}],
        max_length=MAX_ITEMS,
    )
    image: Annotated[str, AfterValidator(_image)] | None = Field(
        default=None,
        description="Container image, a digest is allowed. The result records the digest that ran.",
        examples=["ubuntu", "registry.example/team/image:1.2"],
    )
    args: tuple[_Text, ...] = Field(
        default=(),
        description="Program and arguments, run in the task folder without a shell; by default the image's command.",
        examples=[["uname"], ["sh", "-c", "sort input.txt > sorted.txt"]],
        max_length=10 * MAX_ITEMS,
    )
    files: _Files = Field(
        default={},
        description="Input files by their name in the task folder: null (the file of that name), a path, "
        '{"path"}, {"reference"} (sha256 of a stored blob) or {"content"}. A folder stands for all that is in it.',
        examples=[{"input.txt": None, "main.py": {"content": "print(1)\n"}}],
    )
    stdin: TaskPath | None = Field(
        default=None, description="Input file to read as standard input.", examples=["input.txt"]
    )
    stdout: TaskPath | None = Field(
        default=None,
        description="Name in the result of what the program printed; without it the output is in the log only.",
    )
    stderr: TaskPath | None = Field(
        default=None, description="The same for standard error; with the name of stdout the two are merged."
    )
    collect: tuple[CollectRule, ...] = Field(
        default=(),
        description="What to bring back after the run.",
        examples=[[{"glob": "out/**"}]],
        max_length=MAX_ITEMS,
    )
    environment: Mapping[_Variable, _Text] = Field(
        default={}, description="Environment variables.", examples=[{"OMP_NUM_THREADS": "1"}], max_length=MAX_ITEMS
    )
    secrets: Annotated[tuple[_Variable, ...], AfterValidator(unique)] = Field(
        default=(), description="Names of stored secrets to set as environment variables.", max_length=MAX_ITEMS
    )
    limits: Limits = Field(
        default=Limits(), description="What the task may use at most; by default the server's policy."
    )
    best_effort: Annotated[tuple[_LimitName, ...], AfterValidator(unique)] = Field(
        default=(),
        description="Limits that the task can do without: nodes that cannot enforce them may run it, the result tells.",
        examples=[["storage"]],
    )
    requires: tuple[_Word, ...] = Field(
        default=(),
        description="Tags that the node must have.",
        examples=[["cpu:amd", "gpu:nvidia"]],
        max_length=MAX_ITEMS,
    )
    exclusive: Switch = Field(default=False, description="True to be alone on the node.")
    resources: Mapping[_Word, PositiveCount] = Field(
        default={},
        description="Units of counters that the whole grid shares, such as licences.",
        examples=[{"matlab": 1}],
    )
    priority: Annotated[int, whole(-100, 100)] = Field(
        default=0, description="-100 to 100; the higher goes first among the tasks of one user."
    )
    after: Annotated[tuple[_TaskId, ...], AfterValidator(unique)] = Field(
        default=(), description="Ids of the tasks that must succeed before.", max_length=MAX_ITEMS
    )
    expires: PositiveSeconds | None = Field(
        default=None,
        description="Seconds after the submit by which the task must have started; later it is not run at all.",
        examples=["2h"],
    )
    retry: Retry | None = Field(default=None, description="When to run the task again; by default never.")
    singleton: _Word | None = Field(
        default=None,
        description="Key of which at most one of your tasks runs at a time; the others wait.",
        examples=["nightly-report"],
    )
    runtime: Annotated[str, AfterValidator(_runtime)] | None = Field(
        default=None, description="Runtime to use on the node; by default docker.", examples=["docker"]
    )
    profile: Annotated[
        str,
        AfterValidator(one_of(PROFILES, "a container profile")),
        Field(json_schema_extra={"enum": list(PROFILES)}),
    ] = Field(
        default=str(Profile.STANDARD),
        description="How the container is made: `judge` has root and some capabilities, for those who may use it.",
        examples=["judge"],
    )
    callback_url: Annotated[str, AfterValidator(_url)] | None = Field(
        default=None,
        description="Address to which the server posts the result, signed.",
        examples=["https://host/hook"],
    )


_PARTS: dict[str, type[Record]] = {"limits": Limits, "retry": Retry, "collect": CollectRule, "files": FileSpec}


def parse_spec(data: object, *, default_name: str = "") -> TaskSpec:
    """The task that a JSON value describes; ``default_name`` (the folder's name) is used when it has none.

    Raises SpecError with every fault of the whole description.
    """
    if not isinstance(data, Mapping):
        raise SpecError(
            [Fault("", f"a task must be an object, not {shown(data)}", 'write {"image": ..., "args": [...]}')]
        )
    # "$schema" is how editors learn where the schema is; it says nothing about the task.
    given = {key: value for key, value in data.items() if key != "$schema"}
    faults: list[Fault] = []
    try:
        spec = TaskSpec.model_validate(given)
    except ValidationError as error:
        faults = faults_of(error, TaskSpec, _PARTS)
        # What is sound by itself is checked for its sense too, so that nothing is found only after the first repair.
        broken = {str(detail["loc"][0]) for detail in error.errors()}
        spec = TaskSpec.model_validate({key: value for key, value in given.items() if str(key) not in broken})
        faults += _contradictions(spec, broken)
    else:
        faults = list(_contradictions(spec, set()))
    if faults:
        raise SpecError(faults)
    return spec if spec.name else spec.model_copy(update={"name": _folder_name(default_name)})


def _contradictions(spec: TaskSpec, broken: set[str]) -> Iterator[Fault]:
    """Faults between keys that are each sound; a key in ``broken`` is not known and nothing is concluded from it."""
    for folder, name in clashes(spec.files):
        yield Fault(f"files.{folder}", f'is a file, but "{name}" needs it to be a folder')
    if spec.stdin and "files" not in broken and not covers(spec.files, spec.stdin):
        yield Fault("stdin", f'"{spec.stdin}" is none of the files', f'add "{spec.stdin}": null to files')
    for folder, name in clashes(filter(None, (spec.stdout, spec.stderr))):
        yield Fault("stdout" if folder == spec.stdout else "stderr", f'is a file, but "{name}" needs it to be a folder')
    for name in spec.secrets:
        if name in spec.environment:
            yield Fault("secrets", f'"{name}" is also set in environment', "leave it in one of the two")
    if not spec.args and not spec.image and not broken & {"args", "image"}:
        yield Fault(
            "", "has neither image nor args, so there is nothing to run", 'write {"image": "ubuntu", "args": ["uname"]}'
        )
    if spec.args and not spec.args[0]:
        yield Fault("args[0]", "is empty, so there is no program to run")
    if spec.retry and spec.retry.attempts is None and spec.retry.memory is None:
        yield Fault("retry.attempts", "is missing", "write how often to run the task at most, such as 3")
    if spec.limits.gpu_memory and not spec.limits.gpus:
        yield Fault("limits.gpu_memory", "is of no use without limits.gpus", "write how many cards the task needs")


def _folder_name(text: str) -> str:
    """A folder's name as the name of a task: without the characters that a name may not have."""
    return "".join(char for char in text if char.isprintable())[:MAX_WORD].strip()


def canonical_json(spec: TaskSpec) -> str:
    """The one spelling of a task: keys sorted, units resolved, defaults left out (new keys then change no old hash)."""
    data = spec.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(data, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def spec_hash(spec: TaskSpec) -> str:
    """sha256 (hex) of the canonical JSON, by which a result proves which task it is of."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of ``task.json``: every key with its meaning; accepts what ``parse_spec`` accepts."""
    schema = TaskSpec.model_json_schema()
    schema["properties"] = {
        "$schema": {"type": "string", "description": "Address of this schema."},
        **schema["properties"],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A task of celery-grid"}
