"""The patterns of ``collect``: which names they match, and into which folders it is worth going."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field

State = frozenset[int]
"""How far a pattern has got in a path: the numbers of the parts that may come next."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern as Python's ``glob`` reads it: ``*`` ``?`` ``[ab]`` within a name, ``**`` for any number of folders.

    As in a shell, wildcards match no name that begins with a dot.
    """

    glob: str
    _parts: tuple[re.Pattern[str] | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [name for name in self.glob.split("/") if name not in ("", ".")]
        if names and names[-1] == "**":  # out/** means the files below out, not a file out
            names.append("*")
        parts = tuple(None if name == "**" else _compile(name) for name in names)
        object.__setattr__(self, "_parts", parts)

    def start(self) -> State:
        """The state at the root."""
        return self._skip({0})

    def step(self, state: State, name: str) -> State:
        """The state after one more name of the path; empty when nothing there or below can match."""
        after: set[int] = set()
        for place in state:
            part = self._parts[place] if place < len(self._parts) else _NOTHING
            if part is None and not name.startswith("."):
                after.add(place)
            elif part is not None and part.fullmatch(name):
                after.add(place + 1)
        return self._skip(after)

    def matches(self, state: State) -> bool:
        """True when the path that led to this state is matched as a whole."""
        return len(self._parts) in state

    def _skip(self, places: set[int]) -> State:
        """``**`` also stands for no folder at all."""
        for place in sorted(places):
            while place < len(self._parts) and self._parts[place] is None:
                place += 1
                places.add(place)
        return frozenset(places)


_NOTHING = re.compile(r"(?!)")


def _compile(name: str) -> re.Pattern[str]:
    wild = name[0] in "*?["
    return re.compile((r"(?!\.)" if wild else "") + fnmatch.translate(name))
