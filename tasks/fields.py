"""Checks that the fields of several records share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BeforeValidator

from tasks.faults import nearest
from tasks.limits import NumberInput
from tasks.units import parse_whole

MAX_WORD = 200

_Item = TypeVar("_Item")


def one_of(words: tuple[str, ...], kind: str) -> Callable[[str], str]:
    """A check that a text is one of ``words``; its complaint calls them ``kind`` and has the nearest."""

    def check(text: str) -> str:
        if text not in words:
            raise ValueError(f'"{text[:MAX_WORD]}" is not {kind}; {nearest(text, words)}')
        return text

    return check


def unique(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    """A check that nothing is named twice."""
    twice = sorted({str(item) for item in items if items.count(item) > 1})
    if twice:
        raise ValueError("names twice: " + ", ".join(twice))
    return items


def whole(least: int, most: int) -> BeforeValidator:
    """A whole number in these bounds, plain or written as text."""
    return BeforeValidator(lambda value: parse_whole(value, least, most), json_schema_input_type=NumberInput)
