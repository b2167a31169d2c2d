"""The form of a task: every description can be shown in fields and read back without losing anything."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.limits import Limits
from tasks.spec import json_schema, parse_spec, spec_hash
from tasks.specform import OTHER, description_of, field_of, fields, grouped, texts_of
from tasks.usual import ENOUGH, Sample, choose, likeness, usual

RICH: dict[str, Any] = {
    "image": "busybox",
    "name": "week 3",
    "args": ["sh", "-c", "sort 'a b'\n > out", "", "[", "ü"],
    "files": {"in": None, "b": "c/d", "e": {"content": "x\n"}, "f": {"reference": "0" * 64, "executable": True}},
    "stdin": "b",
    "collect": [{"glob": "out/**", "strip": 1}, {"glob": "x"}],
    "environment": {"A": "1", "B": "x = y", "C": "two\nlines", "D": " spaced "},
    "labels": {"a=b": "c", "n": 3},
    "limits": {"memory": "1.5G", "time": 0.5, "cpus": 0.25, "network": True, "swap": 0, "pids": 100_000_000},
    "requires": ["cpu:amd", "two words", "comma,"],
    "resources": {"matlab": 2},
    "exclusive": True,
    "priority": -3,
    "after": ["abc", "def"],
    "expires": "2h",
    "retry": {"attempts": 3, "exit_codes": [75, 3], "memory": ["1G", 536870912], "on": ["signal"], "delay": 1.25},
    "callback_url": "https://host/hook",
    "best_effort": ["storage"],
}


def test_a_description_survives_its_fields() -> None:
    made, faults = description_of(texts_of(RICH), {})
    assert faults == []
    assert spec_hash(parse_spec(made)) == spec_hash(parse_spec(RICH))


def test_the_record_of_a_task_survives_too_and_reads_well() -> None:
    stored = parse_spec(RICH).model_dump(mode="json", exclude_defaults=True)
    texts = texts_of(stored)
    assert spec_hash(parse_spec(description_of(texts, {})[0])) == spec_hash(parse_spec(RICH))
    assert (texts["limits.memory"], texts["limits.time"], texts["expires"]) == ("1536M", "500ms", "2h")


@pytest.mark.parametrize("limits", [{}, {"files": 1, "output": 0}, {"gpus": 2, "gpu_memory": "8G"}])
def test_simple_things_have_simple_spellings(limits: dict[str, Any]) -> None:
    spec = {"args": ["uname", "-a"], "files": {"a": None, "b": "c"}, "collect": [{"glob": "out/**"}], "limits": limits}
    texts = texts_of(spec)
    assert (texts["args"], texts["files"], texts["collect"]) == ("uname -a", "a\nb=c", "out/**")
    assert parse_spec(description_of(texts, {})[0]) == parse_spec(spec)


def test_every_key_of_the_schema_has_a_field_with_the_schemas_help() -> None:
    schema = json_schema()
    nested = {"limits": "Limits", "retry": "Retry"}
    wanted = {key for key in schema["properties"] if not key.startswith("$") and key not in nested}
    wanted |= {f"{key}.{name}" for key, part in nested.items() for name in schema["$defs"][part]["properties"]}
    assert {field.name for field in fields()} == wanted | {OTHER}
    assert [field.name for field in fields() if not field.help] == []
    assert sorted(field.name for _, part in grouped() for field in part) == sorted(wanted | {OTHER})


def test_unknown_keys_are_kept_where_they_can_be_mended() -> None:
    spec = {"image": "busybox", "argz": [1], "limits": {"memory": "64M", "ram": 3}, "$schema": "x"}
    texts = texts_of(spec)
    made, faults = description_of(texts, {})
    assert (made, faults) == ({key: spec[key] for key in ("image", "argz", "limits")}, [])


def test_what_cannot_be_read_is_a_fault_at_its_field() -> None:
    texts = {"args": "sh -c 'x", "environment": "A=1\nB", "labels": "a=1\na=2", "files": "[", OTHER: "{", "image": "b"}
    made, faults = description_of(texts, {"image": "a", "name": "kept"})
    assert made == {"image": "b", "name": "kept"}
    assert {fault.path for fault in faults} == {"args", "environment", "labels", "files", OTHER}
    assert [fault.hint for fault in faults if fault.path == "environment"] == ["write KEY=VALUE, one in a line"]


def test_other_keys_that_are_no_object_are_refused_by_the_parser() -> None:
    assert OTHER in description_of({OTHER: "[1]"}, {})[0]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("limits.memory", "limits.memory"),
        ("args[0]", "args"),
        ("files.a/b.txt", "files"),
        ("retry", "retry.attempts"),
        ("retry.on[1]", "retry.on"),
        ("limits.ram", ""),
        ("", ""),
    ],
)
def test_a_fault_is_told_beside_the_field_where_it_is_mended(path: str, name: str) -> None:
    assert field_of(path) == name


# --------------------------------------------------------------------------------------------------------------- usual
MIB = 1024**2


def a_sample(used: float, verdict: str = "success", **limits: Any) -> Sample:
    """A task that used so much memory."""
    return Sample(verdict, Limits.model_validate(limits), {"memory": used, "time": 2.0})


def test_what_similar_tasks_used_is_told_beside_what_they_asked_for() -> None:
    found = usual([a_sample(310 * MIB, memory="4G"), *[a_sample(20 * MIB, memory="2G")] * 29], "name")
    memory = found.limits[0]
    assert memory.words == "asked 4G; the last 30 used at most 310M"
    assert (memory.most, memory.hit, memory.suggested) == (310 * MIB, 0, "512M")


def test_nothing_less_is_suggested_where_one_ran_into_its_limit_or_little_would_be_saved() -> None:
    hit = usual([a_sample(64 * MIB, "memory_limit", memory="64M")], "program").limits[0]
    assert (hit.suggested, hit.words) == ("", "asked 64M; the last one used 64M, and one of them ran into the limit")
    assert usual([a_sample(50 * MIB, memory="100M")], "name").limits[0].suggested == ""


def test_tasks_of_the_same_name_are_better_teachers_if_there_are_some() -> None:
    names = [("1", "a"), ("2", "b"), ("3", "b"), ("4", "a"), ("5", "b")]
    assert choose(names, "b", 2) == (["2", "3"], "name")
    assert choose(names, "a", 30) == (["1", "2", "3", "4", "5"], "program")
    assert choose(names, "", 2) == (["1", "2"], "program")
    assert ENOUGH == 3


def test_the_likeness_is_of_image_and_program() -> None:
    def of(**spec: Any) -> str:
        return likeness(parse_spec(spec))

    assert of(image="a", args=["x", "1"]) == of(image="a", args=["x", "2"], name="other")
    assert len({of(image="a", args=["x"]), of(image="b", args=["x"]), of(image="a", args=["y"]), of(image="a")}) == 4
    assert of(args=["x"]) == ""
