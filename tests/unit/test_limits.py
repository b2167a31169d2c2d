"""Limits: what may be written, what is impossible, and who wins when several speak."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.limits import LIMIT_NAMES, Limits, combine


def test_the_limits_of_a_kolejka_task_are_read() -> None:
    limits = Limits.model_validate({"memory": "64M", "cpus": "1", "pids": "16", "time": "1s"})
    assert limits == Limits(memory=64 * 1024**2, cpus=1.0, pids=16, time=1.0)


def test_all_names_take_their_units_and_give_plain_numbers() -> None:
    said = {
        "memory": "1G",
        "swap": 0,
        "cpus": 0.5,
        "pids": 16,
        "time": "2min",
        "cpu_time": "90s",
        "storage": "1G",
        "files": "1000",
        "output": "16M",
        "network": "false",
        "gpus": "1",
        "gpu_memory": "8G",
    }
    assert set(said) == set(LIMIT_NAMES)
    assert Limits.model_validate(said).model_dump() == {
        "memory": 1024**3,
        "swap": 0,
        "cpus": 0.5,
        "pids": 16,
        "time": 120.0,
        "cpu_time": 90.0,
        "storage": 1024**3,
        "files": 1000,
        "output": 16 * 1024**2,
        "network": False,
        "gpus": 1,
        "gpu_memory": 8 * 1024**3,
    }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("memory", "1M", "1M is too little; a container needs at least 6M"),
        ("memory", 0, "0B is too little"),
        ("storage", 1, "1B is too little; a workspace needs at least 4K"),
        ("cpus", 0, "0 is not possible; write a number of processors from 0.01 to 4096"),
        ("cpus", 5000, "5000 is not possible"),
        ("cpus", -1, "-1 is not possible"),
        ("cpus", "two", '"two" is not a number'),
        ("pids", 0, "0 is not a whole number from 1"),
        ("pids", 1.5, "1.5 is not a whole number"),
        ("files", 0, "0 is not a whole number from 1"),
        ("gpus", -1, "-1 is not a whole number from 0"),
        ("time", 0, "must be more than 0"),
        ("time", "1m", '"1m" is ambiguous; write 1min or 1ms'),
        ("cpu_time", "0s", "must be more than 0"),
        ("network", "off", '"off" is neither true nor false'),
        ("swap", -1, "-1 is not a size"),
    ],
)
def test_an_impossible_limit_is_refused_in_words(name: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Limits.model_validate({name: value})
    (error,) = caught.value.errors()
    assert error["loc"] == (name,)
    assert words in error["msg"]


def test_the_strictest_wins_and_silence_binds_nobody() -> None:
    task = Limits(memory=64 * 1024**2, cpus=4.0, network=True)
    server = Limits(memory=1024**3, cpus=2.0, pids=100)
    assert combine(task, Limits(), server) == Limits(memory=64 * 1024**2, cpus=2.0, pids=100, network=True)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [(True, False, False), (False, None, False), (True, None, True), (None, None, None)],
)
def test_one_no_closes_the_network(first: bool | None, second: bool | None, together: bool | None) -> None:
    assert combine(Limits(network=first), Limits(network=second)).network is together
    assert combine(Limits(network=second), Limits(network=first)).network is together


def test_nothing_said_is_no_limit() -> None:
    assert combine() == Limits() == combine(Limits(), Limits())


some_limits = st.builds(
    Limits,
    memory=st.none() | st.integers(6 * 1024**2, 1024**4),
    time=st.none() | st.floats(0.001, 1e6),
    swap=st.none() | st.integers(0, 1024**4),
    network=st.none() | st.booleans(),
)


@given(some_limits, some_limits, some_limits)
def test_the_order_of_speakers_does_not_matter(one: Limits, two: Limits, three: Limits) -> None:
    assert combine(one, two, three) == combine(three, combine(two, one))
    assert combine(one, one) == one


@given(some_limits)
def test_limits_survive_the_wire(limits: Limits) -> None:
    assert Limits.model_validate_json(limits.model_dump_json()) == limits
