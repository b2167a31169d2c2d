"""Clocks that can be set for single processes: libfaketime stands before the kernel's, the monotonic ones stay true."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# Where Debian's package libfaketime has it, for programs with threads.
_LIBRARIES = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
LIBRARY = next(_LIBRARIES, None)


class Clock:
    """The clock of all processes that get ``environment``: right at first, and then as far off as it was set to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.jump(0)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables for a process."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            # Not the file for each look at the clock: that would slow the process down.
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, seconds: int) -> None:
        """Set the clock to so many seconds before or behind the right time, within a second."""
        draft = self._path.with_suffix(".new")
        draft.write_text(f"{seconds:+d}\n")
        draft.replace(self._path)
