"""JSON text to a value, strictly: every trap of the format is a fault that says where it is."""

from __future__ import annotations

import json
import math
from collections import Counter

from tasks.errors import Fault, SpecError
from tasks.words import printable, shown


def parse_json(text: bytes | str) -> dict[str, object]:
    """The object that the text holds.

    Raises SpecError for text that is not UTF-8 or not JSON (with line and column), keys that stand twice, NaN and
    infinite numbers, lone surrogates, nesting too deep to read, and anything that is not an object.
    """
    reader = _Reader()
    try:
        value: object = json.loads(
            _decoded(text),
            object_pairs_hook=reader.on_object,
            parse_constant=reader.on_constant,
            parse_float=reader.on_float,
            parse_int=reader.on_int,
        )
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        if not error.doc.strip():
            raise _broken("is empty") from None
        raise _broken(
            f"is not JSON at line {error.lineno}, column {error.colno}: {error.msg.removesuffix(' at')}"
        ) from None
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise _broken(f"is not valid Unicode: {half} is one half of a surrogate pair") from None
    except RecursionError:
        raise _broken("is nested too deep") from None
    if reader.faults:
        raise SpecError(reader.faults)
    if not isinstance(value, dict):
        raise _broken(f'must be an object, not {shown(value)}; write {{"image": "ubuntu", "args": ["uname"]}}')
    return value


class _Reader:
    """Collects what the json module lets pass silently."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def on_object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        built = dict(pairs)
        if len(built) < len(pairs):
            counted = Counter(name for name, _ in pairs)
            twice = (name for name, count in counted.items() if count > 1)
            self.faults += [Fault(printable(name), "this key stands more than once in its object") for name in twice]
        return built

    def on_constant(self, word: str) -> float:
        self.faults.append(Fault("", f"{word} is not a number of JSON"))
        return 0.0

    def on_float(self, digits: str) -> float:
        number = float(digits)
        return number if math.isfinite(number) else self._too_large(digits)

    def on_int(self, digits: str) -> float:
        # Python refuses to read thousands of digits; no number of a task has more than these.
        return int(digits) if len(digits) <= 100 else self._too_large(digits)

    def _too_large(self, digits: str) -> float:
        self.faults.append(Fault("", f"the number {digits[:20]}{'...' if len(digits) > 20 else ''} is too large"))
        return 0.0


def _decoded(text: bytes | str) -> str:
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise _broken(f"is not UTF-8: byte 0x{text[error.start]:02x} in line {line}") from None


def _broken(message: str) -> SpecError:
    what, _, hint = message.partition("; ")
    return SpecError([Fault("", f"the task description {what}", hint)])
