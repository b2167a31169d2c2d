"""Every error of the grid, in one tree.

::

    GridError
    ├── SpecError             the task description has faults (all of them are listed)
    ├── Refused               the grid understood the request and says no
    │   ├── NotAllowed        no, wrong or too weak a token
    │   ├── NotFound          no such task, attempt, node or blob (or not one you may see)
    │   ├── Conflict          the thing is not in the state the request needs
    │   │   ├── Changed       the thing is no longer as the caller has seen it (If-Match)
    │   │   └── Stale         the attempt is no longer the caller's: lease lapsed, ended or cancelled
    │   └── TooLarge          a size or count is over the server's limit
    ├── Unavailable           nobody answers, or "try again later" (retry_after_seconds)
    ├── WaitTimeout           the task was not final in the time given to wait
    └── NodeFault             a fault of the grid itself on a node; becomes a verdict of class infrastructure

What the user's program did (exit code, signal, limit...) is never an exception: it is a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class GridError(Exception):
    """Base of all errors of the grid; its text is made to be read by a person."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a task description.

    ``path`` says where (``limits.memory``, ``files.a/b.txt``; empty for the whole), ``message`` what, ``hint`` how to
    mend it.
    """

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        how = f"; {self.hint}" if self.hint else ""
        return f"{where}{self.message}{how}"


class SpecError(GridError):
    """The task description has faults; ``faults`` holds every one of them."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Refused(GridError):
    """The grid understood the request and says no."""


class NotAllowed(Refused):
    """No, wrong or too weak a token."""


class NotFound(Refused):
    """No such task, attempt, node or blob, or not one the caller may see."""


class Conflict(Refused):
    """The thing is not in the state that the request needs."""


class Changed(Conflict):
    """The thing is no longer as the caller has seen it, who wished to change it only as it was."""


class Stale(Conflict):
    """The attempt is no longer the caller's: its lease lapsed, it ended, or it was cancelled."""


class TooLarge(Refused):
    """A size or a count is over the server's limit."""


class Unavailable(GridError):
    """Nobody answers, or the answer was "try again later"."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class WaitTimeout(GridError):
    """The task was not final within the time given to wait; it goes on running."""


class NodeFault(GridError):
    """A fault of the grid itself on a node.

    ``kind`` is the name of a verdict (``image_not_found``, ``image_refused``, ``image_pull``, ``input_missing``,
    ``staging``, ``upload``, ``runtime_error``, ``engine_restarted``, ``node_disk``); ``message`` is the evidence.
    """

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        self.message = message
        super().__init__(f"{kind}: {message}")
