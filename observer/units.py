"""Amounts as kolejka writes them: a number, then suffixes that multiply one another (``10kB`` is 10240 bytes).

In times ``M`` is a minute and ``m`` a thousandth: ``"1m"`` is a millisecond. Numbers may come as strings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,3}))?")
_LONGEST = 64
_MOST = 2**63 - 1

_BYTES = {
    letter: 1024**power for power, letters in enumerate(("bB", "kK", "mM", "gG", "tT", "pP")) for letter in letters
}
_COUNTS = {letter: 1000**power for power, letters in enumerate(("kK", "mM", "gG", "tT", "pP"), 1) for letter in letters}
_SECONDS = {"W": 604800.0, "D": 86400.0, "H": 3600.0, "M": 60.0, "s": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9}


def parse_bytes(value: object) -> int:
    """Bytes of ``64``, ``"64"``, ``"1.5G"``, ``"10kB"``. Raises ValueError."""
    return round(_parse(value, _BYTES))


def parse_count(value: object) -> int:
    """A number of events such as ``"1G"``, in thousands of thousands. Raises ValueError."""
    return round(_parse(value, _COUNTS))


def parse_seconds(value: object) -> float:
    """Seconds of ``10``, ``"2s"``, ``"500ms"``, ``"2M"`` (two minutes). Raises ValueError."""
    return _parse(value, _SECONDS)


def parse_whole(value: object) -> int:
    """A whole number, also as a string. Raises ValueError."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) <= _LONGEST:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ValueError(f"not a whole number: {_show(value)}")
    return value


def _parse(value: object, suffixes: Mapping[str, float]) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        amount: float = value
    elif isinstance(value, str) and len(value) <= _LONGEST:
        amount = _amount(value, suffixes)
    else:
        raise ValueError(f"not an amount: {_show(value)}")
    if not 0 <= amount <= _MOST:  # also false for what is not a number
        raise ValueError(f"out of range: {_show(value)}")
    return amount


def _amount(text: str, suffixes: Mapping[str, float]) -> float:
    rest, factor = text.strip(), 1.0
    while rest and rest[-1] in suffixes:
        factor *= suffixes[rest[-1]]
        rest = rest[:-1]
    if not _NUMBER.fullmatch(rest):
        raise ValueError(f"not an amount: {_show(text)}")
    return float(rest) * factor


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
