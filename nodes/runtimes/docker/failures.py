"""Why a program did not start, as told by the engine and by docker-init, apart from faults of the engine."""

from __future__ import annotations

import re
from pathlib import Path

NOT_FOUND, NOT_EXECUTABLE = 127, 126
_LONGEST_REPORT = 1024

# docker-init (tini) tells on the program's own standard error: "[FATAL tini (7)] exec ./x failed: No such file or
# directory".
_INIT = re.compile(rb"\[FATAL tini \(\d+\)\] (exec (.*) failed: ([^\n]*))\n?", re.DOTALL)
# The engine, when there is no docker-init: 'OCI runtime create failed: ... exec: "x": executable file not found in
# $PATH: unknown'.
_ENGINE = re.compile(r'exec: "(?P<program>.*?)": (?P<why>.*?)(: unknown.*)?$', re.DOTALL)
_MISSING = ("not found", "no such file", "not a directory")
_OOM = "memory limit too low"


def by_engine(message: str) -> tuple[int, str] | None:
    """Exit code and sentence when the engine blames the program, None when it is the engine's own fault."""
    found = _ENGINE.search(message)
    if found is None:
        return None
    return _code(found["why"]), f"{found['program']}: {found['why']}"


def by_init(exit_code: int, stderr: Path) -> tuple[int, str] | None:
    """The same from what docker-init wrote, which then is all that was written; it ends with 1, 126 or 127."""
    if exit_code not in (1, NOT_EXECUTABLE, NOT_FOUND):
        return None
    try:
        if stderr.stat().st_size > _LONGEST_REPORT:
            return None
        found = _INIT.fullmatch(stderr.read_bytes())
    except OSError:
        return None
    if found is None:
        return None
    why = found[3].decode(errors="replace")
    return _code(why), f"{found[2].decode(errors='replace')}: {why}"


def is_out_of_memory(message: str) -> bool:
    """True when the engine says that the memory limit did not even suffice to start."""
    return _OOM in message


def _code(why: str) -> int:
    return NOT_FOUND if any(words in why.lower() for words in _MISSING) else NOT_EXECUTABLE
