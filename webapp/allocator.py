"""How this process gives memory back: large blocks to the system at once, however many threads there are.

By itself the C library of Linux learns from the first large block that it frees to keep such blocks, and each thread
keeps its own: two dozen threads that each passed a megabyte on (parts of logs and of files) would hold 170 MB for good.
"""

from __future__ import annotations

import ctypes

# Of mallopt(3).
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
LARGE_BYTES = 128 * 1024
ARENAS = 4


def settle() -> bool:
    """Set it up, at the start of the process; False where the C library is another one, which is as good as it is."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(_ARENA_MAX, ARENAS))
