"""Sizes, durations and numbers as people write them: one parser and one formatter each, which round-trip exactly.

Sizes are powers of 1024 whatever the spelling (``64M`` = ``64MB`` = ``64MiB``), as docker and kolejka have them.
Durations are seconds: ``5``, ``"500ms"``, ``"2min"``, ``"1h"``. A bare ``m`` is refused: people mean minutes, kolejka
means milliseconds.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from tasks.words import shown

MAX_BYTES = 1024**6
MAX_SECONDS = 10 * 366 * 86400.0

_MAX_TEXT = 64
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_SIZE = re.compile(_NUMBER + r"\s*(?:([kmgtp]?)(?:i?b)?)", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(_NUMBER + r"\s*([a-zµμ]*)", re.IGNORECASE)
_SIZE_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SECONDS = {
    "": Decimal(1),
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
    "w": Decimal(604800),
}
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)
_MAX_NUMBER = 2.0**53
_SWITCHES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SIZE_HELP = "write 64M, 64MiB or a number of bytes"
_DURATION_HELP = "write 500ms, 5s, 2min, 1h or a number of seconds"


def parse_size(value: object) -> int:
    """Bytes of a size: a whole number or a text such as ``"64M"``, ``"1.5G"``, ``"64MiB"``.

    What is left of ``"1.3K"`` after the last whole byte is dropped. Raises ValueError with a sentence that says what to
    write.
    """
    if isinstance(value, str):
        number, unit = _match(_SIZE, value, "size", _SIZE_HELP)
    else:
        number, unit = _plain(value, "size", _SIZE_HELP), ""
    exact = number * 1024 ** _SIZE_POWER[unit]
    if exact > MAX_BYTES:
        raise ValueError(f"{shown(value)} is absurdly large; the most is {format_size(MAX_BYTES)}")
    if unit == "" and exact % 1:
        raise ValueError(f"{shown(value)} is not a whole number of bytes; {_SIZE_HELP}")
    return int(exact)


def parse_duration(value: object) -> float:
    """Seconds of a duration: a number or a text such as ``"500ms"``, ``"5s"``, ``"2min"``, ``"1.5h"``, ``"1d"``.

    Raises ValueError with a sentence that says what to write.
    """
    if isinstance(value, str):
        number, unit = _match(_DURATION, value, "duration", _DURATION_HELP)
        unit = unit.replace("µ", "u").replace("μ", "u")
        if unit == "m":
            amount = value.strip()[:-1].strip()
            raise ValueError(f"{shown(value)} is ambiguous; write {amount}min or {amount}ms")
        if unit not in _SECONDS:
            raise ValueError(f"{shown(value)} is not a duration; {_DURATION_HELP}")
        exact = number * _SECONDS[unit]
    else:
        exact = _plain(value, "duration", _DURATION_HELP)
    if exact > Decimal(MAX_SECONDS):
        raise ValueError(f"{shown(value)} is absurdly long; the most is 10 years")
    return float(exact)


def parse_number(value: object) -> float:
    """A finite number, plain or written as text (``"1"``), as kolejka's tasks have it; ValueError for anything else."""
    if isinstance(value, str) and len(value) <= _MAX_TEXT and _PLAIN_NUMBER.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise ValueError(f"{shown(value)} is not a number")
    if abs(value) > _MAX_NUMBER:
        raise ValueError(f"{shown(value)} is absurdly large")
    return float(value)


def parse_whole(value: object, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``, plain or written as text; ValueError for anything else."""
    number = parse_number(value)
    if number % 1 or not least <= number <= most:
        raise ValueError(f"{shown(value)} is not a whole number from {least} to {most}")
    return int(number)


def parse_switch(value: object) -> bool:
    """true or false, also written as text or as 1 and 0; ValueError for anything else."""
    word = str(value).strip().lower() if isinstance(value, bool | int | str) else ""
    if word not in _SWITCHES:
        raise ValueError(f"{shown(value)} is neither true nor false")
    return _SWITCHES[word]


def format_size(size_bytes: int) -> str:
    """The shortest exact spelling: ``64M`` for 67108864, ``1000B`` for 1000; ``parse_size`` gives the number back."""
    for letter, power in reversed(_SIZE_POWER.items()):
        if letter and size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{letter.upper()}"
    return f"{size_bytes}B"


def format_duration(seconds: float) -> str:
    """An exact spelling: ``7200`` is ``2h``, ``0.5`` is ``500ms``; ``parse_duration`` gives the same number back."""
    exact = Decimal(repr(float(seconds)))
    for unit in ("w", "d", "h", "min", "s", "ms"):
        if exact and exact % _SECONDS[unit] == 0:
            return f"{int(exact / _SECONDS[unit])}{unit}"
    return f"{exact:f}s" if exact else "0s"


def human_size(size_bytes: int) -> str:
    """A size for a sentence, rounded to one decimal: ``63.9M``."""
    for letter, power in reversed(_SIZE_POWER.items()):
        if letter and size_bytes >= 1024**power:
            return f"{_rounded(size_bytes / 1024**power)}{letter.upper()}"
    return f"{size_bytes}B"


def human_seconds(seconds: float) -> str:
    """A duration for a sentence: ``340ms``, ``2.3s``, ``1min 5s``, ``2h 10min``, ``3d 4h``."""
    if seconds < 0.9995:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    if seconds < 59.95:
        return f"{_rounded(seconds)}s"
    whole = round(seconds)
    for unit, size, small, step in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= size:
            return _pair(whole // size, unit, whole % size // step, small)
    return _pair(whole // 60, "min", whole % 60, "s")


def _match(pattern: re.Pattern[str], text: str, kind: str, help_text: str) -> tuple[Decimal, str]:
    found = pattern.fullmatch(text.strip()) if len(text) <= _MAX_TEXT else None
    if found is None:
        raise ValueError(f"{shown(text)} is not a {kind}; {help_text}")
    return Decimal(found[1]), found[2].lower()


def _plain(value: object, kind: str, help_text: str) -> Decimal:
    """A JSON number as a Decimal; true and false are numbers to Python but not to people."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is not a {kind}; {help_text}")
    if not _finite(value) or value < 0:
        raise ValueError(f"{shown(value)} is not a {kind}; {help_text}")
    return Decimal(value) if isinstance(value, int) else Decimal(repr(value))


def _finite(value: float) -> bool:
    # An int of hundreds of digits is finite, but math.isfinite cannot take it.
    return isinstance(value, int) or math.isfinite(value)


def _rounded(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _pair(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit} {small}{small_unit}" if small else f"{large}{unit}"
