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
            # The processes of one machine have one clock: none may go on by the old one for a while.
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # It would mend a fault of older C libraries. On a newer one a thread that waits for Python's lock then
            # never sleeps: ten times the processor time, and programs that are slow for want of it.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def jump(self, seconds: int) -> None:
        """Set the clock to so many seconds before or behind the right time, at once."""
        draft = self._path.with_suffix(".new")
        draft.write_text(f"{seconds:+d}\n")
        draft.replace(self._path)
