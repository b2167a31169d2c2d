"""The task description: what is accepted, and that every fault of a bad one is told at once, with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.errors import SpecError
from tasks.files import MAX_FILES, CollectRule, FileSpec
from tasks.limits import LIMIT_NAMES, Limits
from tasks.spec import RETRY_WORDS, Retry, TaskSpec, json_schema, parse_json, parse_spec, spec_hash

Found = TypeVar("Found")

KOLEJKA_README: dict[str, Any] = {
    "image": "ubuntu",
    "args": ["uname"],
    "limits": {"memory": "64M", "cpus": "1", "pids": "16", "time": "1s"},
    "stdout": "stdout.txt",
}

EVERYTHING: dict[str, Any] = {
    "$schema": "https://grid.example/api/v1/schema",
    "name": "week 3",
    "labels": {"course": "algorithms", "year": 2024},
    "image": "registry.example:5000/team/image:1.2@sha256:" + "ab" * 32,
    "args": ["./a.out", 5, 0.5, ""],
    "files": {
        "a.out": {"path": "build/a.out", "executable": True},
        "in.txt": None,
        "tests": "data/tests",
        "c.txt": {"content": "3 4\n"},
        "d.bin": {"reference": "0f" * 32},
    },
    "stdin": "tests/1.in",
    "stdout": "out/all.txt",
    "stderr": "out/all.txt",
    "collect": [{"glob": "out/**"}, {"glob": "*.png", "strip": "1", "prefix": "plots", "required": True}],
    "environment": {"OMP_NUM_THREADS": 1, "EMPTY": ""},
    "secrets": ["TOKEN"],
    "limits": {"memory": "1.5G", "time": "2min", "cpus": 0.5, "storage": "1G", "network": False, "gpus": 1},
    "best_effort": ["storage", "gpus"],
    "requires": ["cpu:xeon e3-1270 v5", "gpu:nvidia"],
    "exclusive": True,
    "resources": {"matlab": 2},
    "priority": -100,
    "after": ["0123456789abcdef"],
    "expires": "2h",
    "retry": {"attempts": 3, "on": ["exit_code", "user"], "delay": "10s", "backoff": 2},
    "singleton": "nightly",
    "runtime": "docker",
    "profile": "judge",
    "callback_url": "https://judge.example:8443/hook?x=1",
}


def attempt(read: Callable[[], Found]) -> Found | SpecError:
    """What was read, or the error that says why not; any other error is a failure of the test."""
    try:
        return read()
    except SpecError as error:
        return error


def faults_of(data: object) -> dict[str, str]:
    """The faults of a description: place -> message and hint."""
    with pytest.raises(SpecError) as caught:
        parse_spec(data)
    return {fault.path: str(fault).removeprefix(f"{fault.path}: ") for fault in caught.value.faults}


def test_the_example_of_kolejkas_readme_runs_unchanged() -> None:
    assert parse_spec(KOLEJKA_README, default_name="uname") == TaskSpec(
        name="uname",
        image="ubuntu",
        args=("uname",),
        limits=Limits(memory=64 * 1024**2, cpus=1.0, pids=16, time=1.0),
        stdout="stdout.txt",
    )


def test_every_key_is_read() -> None:
    spec = parse_spec(EVERYTHING, default_name="folder")
    assert set(EVERYTHING) - {"$schema"} == set(TaskSpec.model_fields)
    assert spec.name == "week 3"
    assert spec.labels == {"course": "algorithms", "year": "2024"}
    assert spec.args == ("./a.out", "5", "0.5", "")
    assert spec.files["in.txt"] == FileSpec(path="in.txt")
    assert spec.files["tests"] == FileSpec(path="data/tests")
    assert spec.files["a.out"].executable is True
    assert spec.collect[1] == CollectRule(glob="*.png", strip=1, prefix="plots", required=True)
    assert spec.environment == {"OMP_NUM_THREADS": "1", "EMPTY": ""}
    assert spec.limits.network is False
    assert spec.expires == 7200.0
    assert spec.retry == Retry(attempts=3, on=("exit_code", "user"), delay=10.0, backoff=2.0)


def test_what_was_read_can_be_sent_and_read_again() -> None:
    spec = parse_spec(EVERYTHING)
    assert TaskSpec.model_validate_json(spec.model_dump_json()) == spec
    assert parse_spec(spec.model_dump(mode="json")) == spec
    assert parse_spec(parse_json(spec.model_dump_json(exclude_defaults=True))) == spec


def test_a_task_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_spec(KOLEJKA_README).priority = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("folder", "name"), [("uname", "uname"), ("", ""), ("a\nb\x1b", "ab"), ("x" * 300, "x" * 200), ("\ud800", "")]
)
def test_the_folder_gives_its_name_to_a_nameless_task(folder: str, name: str) -> None:
    spec = parse_spec(KOLEJKA_README, default_name=folder)
    assert spec.name == name
    assert parse_spec(spec.model_dump()) == spec


def test_all_faults_are_told_at_once() -> None:
    assert faults_of(
        {
            "imgae": "ubuntu",
            "args": ["cat", None],
            "limits": {"memory": "64X", "Memory": 1, "time": "1m"},
            "files": {"../a": None, "b": 5, "c": {"paht": "x"}, "d": {}},
            "collect": [{"glob": "/etc/*"}],
            "environment": {"TOKEN": "x"},
            "secrets": ["TOKEN"],
            "priority": 101,
        }
    ) == {
        "imgae": 'unknown key; did you mean "image"?',
        "args[1]": "must be a text, not null",
        "limits.memory": '"64X" is not a size; write 64M, 64MiB or a number of bytes',
        "limits.Memory": 'unknown key; did you mean "memory"?',
        "limits.time": '"1m" is ambiguous; write 1min or 1ms',
        "files.../a": 'has a "..", which would leave the task folder',
        "files.b": "must be a path, null or an object, not 5",
        "files.c.paht": 'unknown key; did you mean "path"?',
        "files.d": 'needs exactly one of "path", "reference" and "content"',
        "collect[0].glob": "is absolute; write a path relative to the task folder",
        "secrets": '"TOKEN" is also set in environment; leave it in one of the two',
        "priority": "101 is not a whole number from -100 to 100",
    }


ONE_FAULT: list[tuple[dict[str, Any], str, str]] = [
    ({"image": ""}, "image", '"" is not an image'),
    ({"image": "Ubuntu"}, "image", '"Ubuntu" is not an image; write a reference such as ubuntu:24.04'),
    ({"image": "-v/:/host"}, "image", "is not an image"),
    ({"image": "a b"}, "image", "is not an image"),
    ({"image": 5}, "image", "must be a text, not 5"),
    ({"args": "uname"}, "args", 'must be a list, not "uname"'),
    ({"args": ["a\0b"]}, "args[0]", "has a NUL character"),
    ({"args": ["x" * 131072]}, "args[0]", "is 131072 bytes long; the most is 131071"),
    ({"args": ["\ud800"]}, "args[0]", "is not valid Unicode"),
    ({"args": [""]}, "args[0]", "is empty, so there is no program to run"),
    ({"args": [True]}, "args[0]", "must be a text, not true"),
    ({"args": ["x"] * 10001}, "args", "at most 10000 items"),
    ({"name": 5}, "name", "must be a text, not 5"),
    ({"name": "a\nb"}, "name", "has a control character"),
    ({"name": "  "}, "name", "is empty"),
    ({"name": "x" * 201}, "name", "is longer than 200 characters"),
    ({"labels": []}, "labels", "must be an object, not a list"),
    ({"labels": {"": "x"}}, "labels.", "is empty"),
    ({"files": []}, "files", "must be an object, not a list"),
    ({"files": {f"f{i}": None for i in range(MAX_FILES + 1)}}, "files", "the most is 5000"),
    ({"files": {"a": None, "./a": None}}, "files", 'names "a" twice'),
    ({"files": {"a": None, "a/b": None}}, "files.a", 'is a file, but "a/b" needs it to be a folder'),
    ({"files": {"\x1b[2J": None}}, "files.\\x1b[2J", "has a control character"),
    ({"stdin": "in.txt"}, "stdin", '"in.txt" is none of the files; add "in.txt": null to files'),
    ({"stdin": "../in.txt", "files": {}}, "stdin", 'has a ".."'),
    ({"stdout": "/tmp/x"}, "stdout", "is absolute"),
    ({"stdout": "a", "stderr": "a/b"}, "stdout", 'is a file, but "a/b" needs it to be a folder'),
    ({"stdout": "a/b", "stderr": "a"}, "stderr", 'is a file, but "a/b" needs it to be a folder'),
    ({"collect": [{}]}, "collect[0].glob", "is missing"),
    ({"collect": ["*.txt"]}, "collect[0]", 'must be an object, not "*.txt"'),
    ({"collect": [{"glob": "a", "prefix": "../.."}]}, "collect[0].prefix", 'has a ".."'),
    ({"environment": {"A=B": "x"}}, "environment.A=B", "is not a name of an environment variable"),
    ({"environment": {"A": None}}, "environment.A", "must be a text, not null"),
    ({"secrets": ["a b"]}, "secrets[0]", "is not a name of an environment variable"),
    ({"secrets": ["A", "A"]}, "secrets", "names twice: A"),
    ({"limits": []}, "limits", "must be an object, not a list"),
    ({"limits": {"ram": 1}}, "limits.ram", "unknown key"),
    ({"limits": {"gpu_memory": "8G"}}, "limits.gpu_memory", "is of no use without limits.gpus"),
    ({"best_effort": ["memroy"]}, "best_effort[0]", '"memroy" is not the name of a limit; did you mean "memory"?'),
    ({"best_effort": ["pids", "pids"]}, "best_effort", "names twice: pids"),
    ({"requires": "gpu"}, "requires", 'must be a list, not "gpu"'),
    ({"exclusive": "perhaps"}, "exclusive", '"perhaps" is neither true nor false'),
    ({"resources": {"matlab": 0}}, "resources.matlab", "0 is not a whole number from 1"),
    ({"priority": True}, "priority", "true is not a number"),
    ({"priority": 0.5}, "priority", "0.5 is not a whole number"),
    ({"after": ["../x"]}, "after[0]", "is not the id of a task"),
    ({"after": ["x", "x"]}, "after", "names twice: x"),
    ({"expires": "2030-01-01"}, "expires", '"2030-01-01" is not a duration'),
    ({"expires": 0}, "expires", "must be more than 0"),
    ({"retry": 3}, "retry", "must be an object, not 3"),
    ({"retry": {}}, "retry.attempts", "is missing"),
    ({"retry": {"attempts": 0}}, "retry.attempts", "0 is not a whole number from 1 to 100"),
    ({"retry": {"on": ["signal"]}}, "retry.attempts", "is missing"),
    ({"retry": {"attempts": 2, "exit_codes": [0]}}, "retry.exit_codes[0]", "0 is not a whole number from 1 to 255"),
    ({"retry": {"memory": 1}}, "retry.memory", "1 is not a factor above 1, up to 10"),
    ({"retry": {"memory": "128M"}}, "retry.memory", '"128M" is neither a factor nor a list'),
    ({"retry": {"memory": []}}, "retry.memory", "has 0 sizes, not 1 to 20"),
    ({"retry": {"memory": ["5M"]}}, "retry.memory", "5M is too little"),
    ({"retry": {"attempts": 2, "backoff": 0.5}}, "retry.backoff", "0.5 is not a factor from 1 to 10"),
    ({"retry": {"attempts": 2, "on": ["node_lost"]}}, "retry.on[0]", '"node_lost" is not a verdict to retry on'),
    ({"retry": {"attempts": 2, "dealy": 1}}, "retry.dealy", 'unknown key; did you mean "delay"?'),
    ({"singleton": ""}, "singleton", "is empty"),
    ({"runtime": "../docker"}, "runtime", "is not the name of a runtime"),
    ({"callback_url": "ftp://host/"}, "callback_url", "is not an address; write https://host/path"),
    ({"callback_url": "http:///path"}, "callback_url", "is not an address"),
    ({"callback_url": "http://host:99999/"}, "callback_url", "is not an address"),
    ({"callback_url": "http://ho st/"}, "callback_url", "is not an address"),
    ({"zzzzzz": 1}, "zzzzzz", "unknown key; known are: name, labels, image"),
]


@pytest.mark.parametrize(("part", "path", "words"), ONE_FAULT)
def test_one_fault_is_told_once_with_its_place(part: dict[str, Any], path: str, words: str) -> None:
    faults = faults_of({**KOLEJKA_README, **part})
    assert list(faults) == [path]
    assert words in faults[path]


@pytest.mark.parametrize(
    ("data", "shown"), [([], "a list"), ("x", '"x"'), (None, "null"), (5, "5"), (b"", "type bytes")]
)
def test_what_is_not_an_object_is_no_task(data: object, shown: str) -> None:
    assert shown in faults_of(data)[""]


def test_nothing_to_run_is_a_fault() -> None:
    assert "neither image nor args" in faults_of({})[""]
    assert list(faults_of({"image": 5})) == ["image"]


def test_keys_that_are_no_texts_are_told_too() -> None:
    assert "keys should be strings" in str(faults_of({1: 2, "image": "ubuntu"}))


def test_nothing_is_concluded_from_a_broken_key() -> None:
    assert list(faults_of({**KOLEJKA_README, "stdin": "a", "files": {"a": 5}})) == ["files.a"]


@pytest.mark.parametrize(
    "image",
    [
        *("ubuntu", "ubuntu:24.04", "busybox:local", "library/ubuntu", "localhost:5000/a/b__c:Tag_1"),
        *("a@sha256:" + "0" * 64, "Registry.Example/team/x", "[::1]:5000/x"),
    ],
)
def test_an_image_reference_is_accepted(image: str) -> None:
    assert parse_spec({"image": image}).image == image


def test_the_hash_is_of_the_meaning_not_of_the_spelling() -> None:
    one = parse_spec({"image": "ubuntu", "args": ["sleep", 1], "limits": {"memory": "64M"}, "priority": 0})
    two = parse_spec({"limits": {"memory": 67108864}, "args": ["sleep", "1"], "image": "ubuntu"})
    assert spec_hash(one) == spec_hash(two)
    assert re.fullmatch("[0-9a-f]{64}", spec_hash(one))
    assert spec_hash(one) != spec_hash(one.model_copy(update={"priority": 1}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
task_like = st.dictionaries(st.sampled_from([*TaskSpec.model_fields, "x"]), json_values, max_size=6)


@given(task_like)
def test_no_value_makes_the_parser_stumble(data: dict[str, object]) -> None:
    found = attempt(lambda: parse_spec(data))
    if isinstance(found, TaskSpec):
        assert parse_spec(found.model_dump(mode="json")) == found
    else:
        assert all(str(fault).isprintable() for fault in found.faults)


# ----------------------------------------------------------------------------------------------------------- the schema


def accepts(schema: Mapping[str, Any], value: object, root: Mapping[str, Any]) -> bool:
    """Whether a value satisfies a JSON Schema, as far as ours goes."""
    if "$ref" in schema:
        return accepts(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], value, root)
    if "anyOf" in schema:
        return any(accepts(one, value, root) for one in schema["anyOf"])
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kind = schema["type"]
    if kind in ("number", "integer"):
        number = isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
        return number and schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if not isinstance(value, kinds[kind]):
        return False
    if isinstance(value, str):
        return bool(re.search(schema.get("pattern", ""), value)) and value in schema.get("enum", [value])
    if isinstance(value, list):
        return len(value) <= schema.get("maxItems", len(value)) and all(
            accepts(schema["items"], item, root) for item in value
        )
    return not isinstance(value, dict) or accepts_object(schema, value, root)


def accepts_object(schema: Mapping[str, Any], value: dict[str, Any], root: Mapping[str, Any]) -> bool:
    """The part of ``accepts`` for objects."""
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    if not set(schema.get("required", ())) <= set(value):
        return False
    for name, item in value.items():
        part = known.get(name, rest)
        if part is False or (isinstance(part, dict) and not accepts(part, item, root)):
            return False
    return True


def test_the_schema_accepts_what_the_parser_accepts() -> None:
    schema = json_schema()
    for task in (KOLEJKA_README, EVERYTHING, parse_spec(EVERYTHING).model_dump(mode="json")):
        assert accepts(schema, task, schema)
        assert parse_spec(task).image


@pytest.mark.parametrize(
    "part",
    [
        {"imgae": "x"},
        {"limits": {"memory": "64X"}},
        {"limits": {"time": "1m"}},
        {"limits": {"memroy": 1}},
        {"limits": {"network": "off"}},
        {"args": "uname"},
        {"files": {"a": 5}},
        {"files": {"a": {"paht": "x"}}},
        {"collect": [{}]},
        {"best_effort": ["memroy"]},
        {"retry": {"attempts": 2, "on": ["x"]}},
        {"priority": "high"},
    ],
)
def test_the_schema_refuses_the_common_slips(part: dict[str, Any]) -> None:
    schema = json_schema()
    assert not accepts(schema, {**KOLEJKA_README, **part}, schema)


@given(
    st.from_regex(r"\A[0-9.]{1,4} ?[kKmMGTsShHdDwWnuµibB]{0,3}\Z"),
    st.sampled_from(["memory", "swap", "time", "cpu_time", "cpus", "pids"]),
)
def test_schema_and_parser_agree_on_units(text: str, name: str) -> None:
    schema = json_schema()
    task = {**KOLEJKA_README, "limits": {name: text}}
    found = attempt(lambda: parse_spec(task))
    # The schema knows spellings; that 1M of memory is too little only the parser knows.
    spelled_wrong = ("is not a size", "is not a duration", "is ambiguous", "is not a number")
    if isinstance(found, TaskSpec):
        assert accepts(schema, task, schema)
    elif any(words in str(found) for words in spelled_wrong):
        assert not accepts(schema, task, schema)


def test_every_key_explains_itself() -> None:
    schema = json_schema()
    records = [schema, *schema["$defs"].values()]
    assert {record["title"] for record in records} >= {"Limits", "FileSpec", "CollectRule", "Retry"}
    for record in records:
        for name, key in record["properties"].items():
            assert key.get("description"), f"{record['title']}.{name}"
    assert json.loads(json.dumps(schema)) == schema
    items = schema["properties"]["best_effort"]["items"]
    assert items["enum"] == list(LIMIT_NAMES)
    assert schema["$defs"]["Retry"]["properties"]["on"]["items"]["enum"] == list(RETRY_WORDS)
