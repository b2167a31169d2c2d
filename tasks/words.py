"""Foreign text made fit for a sentence: no line breaks, no control characters, no more than a reader can take."""

from __future__ import annotations

MAX_SHOWN = 64
_MAX_DIGITS = 2**53


def printable(text: str) -> str:
    """The text with what a terminal might obey, or UTF-8 cannot hold, as an escape (``\\x1b``, ``\\ud800``)."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def one_line(text: str, most: int = 500) -> str:
    """The text as one printable line of at most ``most`` characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else line[: most - 3] + "..."


def shown(value: object) -> str:
    """A JSON value as it stands in its file, cut to a length that fits into a sentence."""
    if isinstance(value, dict | list | tuple):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    if isinstance(value, str):
        return f'"{one_line(value, MAX_SHOWN)}"'
    if isinstance(value, int) and abs(value) > _MAX_DIGITS:
        return "a number of more than 15 digits"
    return str(value) if isinstance(value, int | float) else f"a value of type {type(value).__name__}"
