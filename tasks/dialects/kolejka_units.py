"""Numbers as kolejka writes them. Not the units of ``tasks.units``: here ``"1m"`` is a millisecond.

Letters are taken off the end one by one and multiplied: ``"10kB"`` is 10240 bytes, ``"1mM"`` is 60 milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tasks.words import shown

_MAX_TEXT = 64
_MOST = 2.0**63
_BYTES = {
    letter: 1024**power for power, letters in enumerate(("bB", "kK", "mM", "gG", "tT", "pP")) for letter in letters
}
_COUNTS = {letter: 1000**power for power, letters in enumerate(("kK", "mM", "gG", "tT", "pP"), 1) for letter in letters}
_SECONDS = {"W": 604_800.0, "D": 86_400.0, "H": 3600.0, "M": 60.0, "s": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9}
_NO = frozenset({"false", "no", "0"})


def read_bytes(value: object) -> int:
    """A size in bytes: ``67108864``, ``"64M"``, ``"67108864b"``. Raises ValueError."""
    return round(_number(value, _BYTES, "size; write 64M or a number of bytes"))


def read_count(value: object) -> int:
    """A large count: ``"1G"`` is a thousand million. Raises ValueError."""
    return round(_number(value, _COUNTS, "number; write 1G or a plain number"))


def read_seconds(value: object) -> float:
    """A duration in seconds, to the microsecond: ``"1s"``, ``"2M"`` (minutes), ``"1m"`` (a millisecond), ``1.5``.

    Raises ValueError.
    """
    return round(_number(value, _SECONDS, "duration; write 500ms, 5s, 2M (minutes), 1H or a number of seconds"), 6)


def read_whole(value: object) -> int:
    """A whole number, plain or as text; a fraction is cut off, but not one in a text. Raises ValueError."""
    complaint = f"{shown(value)} is not a whole number"
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise ValueError(complaint)
    if not isinstance(value, int | float | str):
        raise ValueError(complaint)
    try:
        number = int(value)
    except (ValueError, OverflowError):
        raise ValueError(complaint) from None
    if abs(number) > _MOST:
        raise ValueError(f"{shown(value)} is absurdly large")
    return number


def read_switch(value: object) -> bool:
    """False for false, "no" and "0" in any case; everything else is True, ``"off"`` and ``""`` too."""
    return value if isinstance(value, bool) else str(value).lower().strip() not in _NO


def write_bytes(size_bytes: int) -> str:
    """As kolejka writes sizes: ``"67108864b"``."""
    return f"{size_bytes}b"


def write_seconds(seconds: float) -> str:
    """As kolejka writes durations: ``"1.0s"``, to the microsecond."""
    digits = f"{seconds:.6f}".rstrip("0")
    return f"{digits}0s" if digits.endswith(".") else f"{digits}s"


def _number(value: object, letters: Mapping[str, float], kind: str) -> float:
    complaint = f"{shown(value)} is not a {kind}"
    factor = 1.0
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _MAX_TEXT:
            raise ValueError(complaint)
        while text and text[-1] in letters:
            factor *= letters[text[-1]]
            text = text[:-1]
        try:
            number = float(text)
        except ValueError:
            raise ValueError(complaint) from None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, int) and abs(value) > _MOST:
            raise ValueError(f"{shown(value)} is absurdly large")
        number = float(value)
    else:
        raise ValueError(complaint)
    exact = number * factor
    if not math.isfinite(exact) or exact < 0:
        raise ValueError(complaint)
    if exact > _MOST:
        raise ValueError(f"{shown(value)} is absurdly large")
    return exact
