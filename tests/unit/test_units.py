"""Sizes and durations: what people may write, what is refused with which words, and that nothing is lost on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.units import (
    MAX_BYTES,
    MAX_SECONDS,
    format_duration,
    format_size,
    human_seconds,
    human_size,
    parse_duration,
    parse_number,
    parse_size,
    parse_switch,
    parse_whole,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (64, 64),
        (64.0, 64),
        ("64", 64),
        ("64b", 64),
        ("10kB", 10240),
        ("64M", 64 * 1024**2),
        ("64MB", 64 * 1024**2),
        ("64MiB", 64 * 1024**2),
        (" 64 mib ", 64 * 1024**2),
        ("1.5G", 3 * 1024**3 // 2),
        (".5K", 512),
        ("1.3K", 1331),
        ("2T", 2 * 1024**4),
        ("1P", 1024**5),
        ("67108864b", 64 * 1024**2),
        (0, 0),
    ],
)
def test_a_size_is_read(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "wrong",
    [
        *("64X", "", "M", "-1", "-1M", "1e3", "nan", "inf", "64 M B", "1..5M", "\uff11M", "9" * 65, b"64M"),
        *(True, False, None, [], {}, -1, float("nan"), float("inf")),
    ],
)
def test_what_is_no_size_is_refused_with_what_to_write(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size; write 64M, 64MiB or a number of bytes$"):
        parse_size(wrong)


def test_the_words_of_the_refusal_quote_the_value() -> None:
    with pytest.raises(ValueError, match=r'^"64X" is not a size'):
        parse_size("64X")
    with pytest.raises(ValueError, match=r"^true is not a size"):
        parse_size(True)
    with pytest.raises(ValueError, match=r"^null is not a size"):
        parse_size(None)


@pytest.mark.parametrize("fraction", [1.5, "1.5", "0.5b"])
def test_half_a_byte_is_refused(fraction: object) -> None:
    with pytest.raises(ValueError, match="is not a whole number of bytes"):
        parse_size(fraction)


@pytest.mark.parametrize("huge", ["1025P", 1024**6 + 1, 10**400, "9" * 60, 1e300])
def test_an_absurd_size_is_refused(huge: object) -> None:
    with pytest.raises(ValueError, match=r"is absurdly large; the most is 1024P$"):
        parse_size(huge)


@given(st.integers(min_value=0, max_value=MAX_BYTES))
def test_every_size_survives_being_written_and_read(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(min_value=0, max_value=1023), st.sampled_from("KMGTP"), st.sampled_from(["", "B", "iB"]))
def test_all_spellings_of_a_size_agree(number: int, letter: str, tail: str) -> None:
    assert parse_size(f"{number}{letter}{tail}") == parse_size(f"{number}{letter.lower()}")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (1000, "1000B"), (1024, "1K"), (67108864, "64M"), (1536 * 1024**2, "1536M")]
)
def test_a_size_is_written_in_the_largest_unit_that_is_exact(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("5", 5.0),
        ("5s", 5.0),
        ("1.0s", 1.0),
        ("500ms", 0.5),
        ("20us", 2e-5),
        ("20µs", 2e-5),
        ("20μs", 2e-5),
        ("7ns", 7e-9),
        ("2min", 120.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        ("2w", 1209600.0),
        (" 1 H ", 3600.0),
        (0, 0.0),
    ],
)
def test_a_duration_is_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("wrong", ["", "s", "5x", "-5s", "1h30", "five", True, None, [], -1, -0.5, float("nan")])
def test_what_is_no_duration_is_refused_with_what_to_write(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; write 500ms, 5s, 2min, 1h or a number of seconds$"):
        parse_duration(wrong)


@pytest.mark.parametrize("text", ["1m", "1M", "1 m"])
def test_a_bare_m_is_ambiguous(text: str) -> None:
    with pytest.raises(ValueError, match=r"is ambiguous; write 1min or 1ms$"):
        parse_duration(text)


@pytest.mark.parametrize("long", ["600w", 1e12, 10**400, "9" * 60])
def test_an_absurd_duration_is_refused(long: object) -> None:
    with pytest.raises(ValueError, match=r"is absurdly long; the most is 10 years$"):
        parse_duration(long)


@given(st.floats(min_value=1e-9, max_value=MAX_SECONDS) | st.just(0.0))
def test_every_duration_survives_being_written_and_read(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=int(MAX_SECONDS)))
def test_whole_seconds_survive_too(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (7200, "2h"), (0.5, "500ms"), (90, "90s"), (1.5, "1500ms"), (604800, "1w"), (0.00025, "0.00025s")],
)
def test_a_duration_is_written_exactly(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (1023, "1023B"), (67003351, "63.9M"), (67108864, "64M"), (1024**6, "1024P")]
)
def test_a_size_in_a_sentence_has_one_decimal(size: int, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.34, "340ms"),
        (0.9999, "1s"),
        (2.34, "2.3s"),
        (59.96, "1min"),
        (65, "1min 5s"),
        (7800, "2h 10min"),
        (7200, "2h"),
        (273600, "3d 4h"),
    ],
)
def test_a_duration_in_a_sentence_has_two_units_at_most(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(("value", "number"), [(1, 1.0), (0.5, 0.5), ("1", 1.0), (" 1.5 ", 1.5), ("-3", -3.0)])
def test_a_number_may_be_text(value: object, number: float) -> None:
    assert parse_number(value) == number


@pytest.mark.parametrize("wrong", [True, None, "one", "1e5", "", "1" * 65, float("inf"), []])
def test_what_is_no_number_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"is not a number$"):
        parse_number(wrong)


def test_a_number_of_hundreds_of_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="is absurdly large"):
        parse_number(10**200)


@pytest.mark.parametrize("wrong", [1.5, 0, 11, "0", "2.5"])
def test_a_whole_number_out_of_range_is_refused_with_the_range(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"is not a whole number from 1 to 10$"):
        parse_whole(wrong, 1, 10)
    assert parse_whole("10", 1, 10) == 10


@pytest.mark.parametrize(("value", "truth"), [(True, True), ("yes", True), (1, True), ("False", False), (0, False)])
def test_a_switch_is_read(value: object, truth: bool) -> None:
    assert parse_switch(value) is truth


@pytest.mark.parametrize("wrong", ["maybe", 2, None, 1.0, "", []])
def test_what_is_no_switch_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"is neither true nor false$"):
        parse_switch(wrong)
