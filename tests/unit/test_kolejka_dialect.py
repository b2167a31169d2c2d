"""kolejka's JSON and ours: units as kolejka has them, round trips, what is ignored and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tasks.dialects.kolejka import Reading, read_task, write_limits, write_task
from tasks.dialects.kolejka_foremen import hold_seconds, missing_outputs, read_wish
from tasks.dialects.kolejka_results import Report, evidence_of, read_result
from tasks.dialects.kolejka_units import (
    read_bytes,
    read_count,
    read_seconds,
    read_switch,
    read_whole,
    write_bytes,
    write_seconds,
)
from tasks.errors import SpecError
from tasks.limits import Limits
from tasks.outcome import Usage
from tasks.spec import parse_spec
from tasks.states import StopCause

# ---------------------------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("text", "size"),
    [("64M", 64 * 2**20), ("64MB", 64 * 2**20), ("10kB", 10240), ("1.5G", 3 * 2**29), (64, 64), ("64", 64), ("7b", 7)],
)
def test_sizes(text: object, size: int) -> None:
    assert read_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("500ms", 0.5), ("1m", 0.001), ("2M", 120), ("1H", 3600), ("3D", 259_200), ("1W", 604_800), (10, 10)],
)
def test_durations_where_a_small_m_is_a_millisecond(text: object, seconds: float) -> None:
    assert read_seconds(text) == seconds


def test_counts_and_whole_numbers() -> None:
    assert read_count("1G") == 10**9
    assert [read_whole(one) for one in ("1", 1, 1.9, " 2 ")] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("value", "switch"),
    [("No", False), ("0", False), (0, False), ("FALSE", False), ("off", True), ("", True), (1, True)],
)
def test_switches(value: object, switch: bool) -> None:
    assert read_switch(value) is switch


@pytest.mark.parametrize("text", ["1GiB", "x", "", "inf", "nan", "-1", "1e400", [], True, 2**80, "9" * 100])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size|absurdly"):
        read_bytes(text)


@pytest.mark.parametrize("text", ["1h", "1min", "100us", None])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        read_seconds(text)


@pytest.mark.parametrize("text", ["1.5", "x", None, [], math.inf, "1" * 90, 2**70])
def test_what_is_no_whole_number(text: object) -> None:
    with pytest.raises(ValueError, match=r"whole number|absurdly"):
        read_whole(text)


@given(some.integers(0, 2**53))  # beyond, kolejka's numbers, which may have fractions, are not exact
def test_sizes_come_back(size: int) -> None:
    assert read_bytes(write_bytes(size)) == size


@given(some.integers(0, 10**13))
def test_durations_come_back_to_the_microsecond(microseconds: int) -> None:
    assert read_seconds(write_seconds(microseconds / 10**6)) == microseconds / 10**6


# ---------------------------------------------------------------------------------------------------------------- tasks

_WORDS = some.text("abcxyz019._-", min_size=1, max_size=8).filter(lambda word: word.strip("."))
_TEXTS = some.text(some.characters(exclude_categories=("Cs", "Cc")), max_size=20)
_SHA256 = some.text("0123456789abcdef", min_size=64, max_size=64)
_LIMITS = some.fixed_dictionaries(
    {},
    optional={
        "cpus": some.integers(1, 64),
        "memory": some.integers(6 * 2**20, 2**50),
        "swap": some.integers(0, 2**50),
        "pids": some.integers(1, 2**20),
        "time": some.integers(1, 10**12).map(lambda microseconds: microseconds / 10**6).filter(lambda s: s < 10**8),
        "storage": some.integers(4096, 2**50),
        "network": some.just(False),
        "gpus": some.integers(1, 8),
    },
)
_SPECS = some.fixed_dictionaries(
    {"image": some.sampled_from(["ubuntu", "host/team/image:1"]), "limits": _LIMITS},
    optional={
        "args": some.lists(_TEXTS, max_size=4).map(lambda args: ["run", *args]),
        "requires": some.lists(_WORDS, max_size=3),
        "exclusive": some.booleans(),
        "environment": some.dictionaries(some.sampled_from(["A", "B_2"]), _TEXTS),
        "files": some.dictionaries(_WORDS, some.fixed_dictionaries({"reference": _SHA256}), max_size=3),
        "stdout": _WORDS.map(lambda word: f"o/{word}"),
        "stderr": _WORDS.map(lambda word: f"e/{word}"),
        "collect": some.lists(
            some.fixed_dictionaries(
                {"glob": _WORDS}, optional={"strip": some.integers(0, 9), "prefix": _WORDS.map(lambda word: f"p{word}")}
            ),
            max_size=2,
        ),
        "callback_url": some.just("https://host/x"),
    },
)


def reread(written: dict[str, Any]) -> Reading:
    """What is read of what was written."""
    return read_task(written, network_allowed=False)


@given(_SPECS)
def test_a_task_of_ours_comes_back_from_kolejkas_words(said: dict[str, Any]) -> None:
    spec = parse_spec(said)
    reading = reread(write_task(spec, "id", spec.limits))
    assert (reading.warnings, reading.refused) == ((), ())
    again = parse_spec(reading.spec)
    unlike = {"best_effort"}
    # That the network is declined is what kolejka is told; here it is what holds where nobody asks for it.
    assert again.model_dump(exclude=unlike) == spec.model_dump(exclude=unlike) | {
        "limits": {**spec.limits.model_dump(), "network": again.limits.network}
    }


@given(_SPECS)
def test_kolejkas_words_come_back_from_ours(said: dict[str, Any]) -> None:
    spec = parse_spec(said)
    written = write_task(spec, "id", spec.limits)
    again = parse_spec(reread(written).spec)
    assert write_task(again, "id", again.limits) == written


@given(
    some.recursive(
        some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
        lambda inner: (
            some.lists(inner)
            | some.dictionaries(
                some.sampled_from(
                    ["image", "args", "limits", "files", "collect", "environment", "memory", "glob", "strip", "x"]
                ),
                inner,
            )
        ),
    )
)
def test_whatever_is_sent_it_is_read_or_its_faults_are_told(data: Any) -> None:
    told = []
    readers: tuple[Callable[[object], object], ...] = (
        partial(read_task, network_allowed=True),
        read_result,
        read_wish,
    )
    for reader in readers:
        try:
            reader(data)
        except SpecError as error:
            told.append(error.faults)
    assert all(told)


def test_numbers_may_be_texts_and_odd_values_are_texts() -> None:
    said = {
        "image": "ubuntu",
        "args": ["sleep", 1, None, True],
        "limits": {"cpus": "2", "memory": "64MB", "time": "500m", "pids": 9},
        "environment": {"A": 1},
        "exclusive": "off",
    }
    reading = read_task(said, network_allowed=False)
    assert reading.spec["args"] == ["sleep", "1", "None", "True"]
    assert reading.spec["limits"] == {"cpus": 2, "memory": 2**26, "time": 0.5, "pids": 9}
    assert reading.spec["environment"] == {"A": "1"}
    assert reading.spec["exclusive"] is True


def test_unknown_keys_are_ignored_and_named_everywhere() -> None:
    said = {
        "image": "ubuntu",
        "colour": 1,
        "limits": {"mem": "1G", "image": "1G", "cpus_offset": 2, "gpus_offset": 1},
        "collect": [{"glob": "x", "depth": 1}],
        "files": {"a": {"reference": "r", "mode": 7}},
    }
    reading = read_task(said, network_allowed=False)
    named = ("colour", "limits.mem", "limits.image", "limits.cpus_offset", "limits.gpus_offset")
    for word in (*named, "collect[0].depth", "files.a.mode"):
        assert any(word in warning for warning in reading.warnings), word
    assert reading.labelled({"r": "0" * 64})["labels"]["warnings"].count("ignored") == 7


@pytest.mark.parametrize("name", ["perf_instructions", "perf_cycles", "cgroup_depth", "cgroup_descendants"])
def test_limits_that_nobody_enforces_are_refused_by_name(name: str) -> None:
    (fault,) = read_task({"image": "x", "limits": {name: 1}}, network_allowed=True).refused
    assert fault.path == f"limits.{name}"
    assert fault.message


def test_the_smaller_of_workspace_and_storage_holds_as_far_as_a_node_can() -> None:
    for limits in ({"workspace": "1M"}, {"storage": "1M"}, {"storage": "1M", "workspace": "2M"}):
        spec = read_task({"image": "x", "limits": limits}, network_allowed=False).spec
        assert (spec["limits"], spec["best_effort"]) == ({"storage": 2**20}, ["storage"])


def test_memory_of_cards_is_said_of_cards_only() -> None:
    said = {"image": "x", "limits": {"gpus": 0, "gpu_memory": "1G"}}
    assert read_task(said, network_allowed=False).spec["limits"] == {"gpus": 0}
    said["limits"] = {"gpus": 2, "gpu_memory": "1G"}
    assert read_task(said, network_allowed=False).spec["limits"] == {"gpus": 2, "gpu_memory": 2**30}


@given(some.floats(0.01, 4096))
def test_a_part_of_a_processor_is_written_as_a_whole_one(cpus: float) -> None:
    assert write_limits(Limits(cpus=cpus))["cpus"] == math.ceil(cpus)


# -------------------------------------------------------------------------------------------------------------- results


def test_the_numbers_of_a_result_are_read_in_kolejkas_units() -> None:
    said = {
        "id": "t",
        "result": "3",
        "stats": {
            "cpu": {"user": "1s", "system": "500ms"},
            "memory": {"max_usage": "2k", "failures": "4"},
            "pids": {"max_usage": 3, "failures": 0},
            "time": "2M",
            "gpus": {},
        },
        "files": {"a/b": {"reference": "r"}},
        "tags": ["cpu:amd"],
    }
    usage = Usage(
        wall_seconds=120,
        cpu_seconds=1.5,
        cpu_user_seconds=1,
        cpu_system_seconds=0.5,
        memory_peak_bytes=2048,
        pids_peak=3,
    )
    assert read_result(said) == Report("t", 3, usage, 4, 0, {"a/b": "r"}, ("cpu:amd",))


def test_a_kill_at_the_limit_of_time_is_told_from_any_other() -> None:
    limits = Limits(time=2, memory=2**26)

    def evidence(code: int, seconds: float, failures: int = 0) -> Any:
        usage = Usage(wall_seconds=seconds, memory_peak_bytes=2**26)
        return evidence_of(Report("t", code, usage, failures, 0, {}), limits)

    assert evidence(137, 2.7).stopped is StopCause.TIME_LIMIT
    assert evidence(0, 2.7).stopped is None
    assert evidence(137, 1.0, 5).oom_kills == 1
    assert evidence(137, 1.0).oom_kills == 0
    assert evidence(128, 0.0).fault is not None
    assert evidence(128, 0.5).fault is None


def test_a_wave_of_a_foreman_is_given_the_time_that_it_may_need() -> None:
    assert hold_seconds([60, 1]) == 2 * 60 + 10 + 2 * 1 + 10


def test_required_files_are_missed_by_their_names_in_the_result() -> None:
    rules = [
        {"glob": "out/*.txt", "strip": 1, "prefix": "p", "required": True},
        {"glob": "**/log", "required": True},
        {"glob": "x"},
    ]
    spec = parse_spec({"image": "x", "collect": rules})
    assert [one.glob for one in missing_outputs(spec, ["p/a.txt"])] == ["**/log"]
    assert [one.glob for one in missing_outputs(spec, ["a.txt", "b/log"])] == ["out/*.txt"]
