"""Times of processes and of the engine, as seconds of clocks that nobody can set."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path

# Fields of /proc/PID/stat after the program's name, which may hold spaces: see proc_pid_stat(5), field 22 is the
# start time.
_START_FIELD = 22 - 3
_FRACTION_DIGITS = 6


def boot_seconds() -> float:
    """Seconds since the machine started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def process_started_at(pid: int) -> float | None:
    """When a process started, in ``boot_seconds`` with a grain of 10 ms; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[_START_FIELD]) / os.sysconf("SC_CLK_TCK")


def engine_seconds(text: str) -> float | None:
    """An engine's time (``2024-05-01T10:00:00.123456789Z``) as seconds since 1970; None for its "never" (year 1)."""
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Z")
    zone = "+00:00"
    for sign in "+-":
        if sign in digits:
            digits, _, offset = digits.partition(sign)
            zone = sign + offset
    when = datetime.fromisoformat(f"{whole.rstrip('Z')}.{digits[:_FRACTION_DIGITS]:0<6}{zone}")
    return when.timestamp() if when.year > 1 else None
