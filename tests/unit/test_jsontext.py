"""JSON text: the traps of the format are faults that say where they are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import Fault, SpecError
from tasks.jsontext import parse_json


def test_json_is_read_with_or_without_a_byte_order_mark() -> None:
    assert parse_json('{"a": [1, 2.5, "ż"]}') == {"a": [1, 2.5, "ż"]}
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert parse_json('\ufeff{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        ("  \n", "is empty"),
        ("{", "is not JSON at line 1, column 2"),
        ('{\n "image" "x"}', "is not JSON at line 2, column 10: Expecting ':' delimiter"),
        ('{"a": 1,}', "is not JSON at line 1"),
        ('{"a": "\x00"}', "is not JSON at line 1, column 8: Invalid control character"),
        ("image: ubuntu", "is not JSON at line 1, column 1"),
        (b'{"a":\n "\xff"}', "is not UTF-8: byte 0xff in line 2"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8"),
        (r'{"a": "\ud800"}', "is not valid Unicode: '\\ud800' is one half of a surrogate pair"),
        (r'{"\udc00": 1}', "is not valid Unicode"),
        ("[" * 100_000, "is nested too deep"),
        ('{"a":' * 100_000, "is nested too deep"),
        ("[]", "must be an object, not a list"),
        ("null", "must be an object, not null"),
        ('"text"', 'must be an object, not "text"'),
    ],
)
def test_text_that_is_no_task_is_told_apart(text: bytes | str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_json(text)
    (fault,) = caught.value.faults
    assert f"the task description {words}" in str(fault)


def test_what_the_json_module_lets_pass_is_a_fault() -> None:
    text = '{"image": "a", "image": "b", "x": {"y": 1, "y": 2, "\\u001b": 1, "\\u001b": 2}, "n": [NaN, 1e999, %s]}'
    with pytest.raises(SpecError) as caught:
        parse_json(text % ("9" * 5000))
    assert caught.value.faults == (
        Fault("y", "this key stands more than once in its object"),
        Fault("\\x1b", "this key stands more than once in its object"),
        Fault("", "NaN is not a number of JSON"),
        Fault("", "the number 1e999 is too large"),
        Fault("", "the number 99999999999999999999... is too large"),
        Fault("image", "this key stands more than once in its object"),
    )


def read(text: bytes | str) -> dict[str, object] | tuple[Fault, ...]:
    """The object that was read, or the faults; any other error is a failure of the test."""
    try:
        return parse_json(text)
    except SpecError as error:
        return error.faults


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_no_text_makes_the_reader_stumble(text: bytes | str) -> None:
    assert read(text) != ()


@given(st.dictionaries(st.text(), st.none() | st.integers(-(10**30), 10**30) | st.text() | st.booleans()))
def test_what_json_wrote_is_read_back(data: dict[str, object]) -> None:
    assert read(json.dumps(data)) == data
    assert read(json.dumps(data, ensure_ascii=False).encode()) == data
