"""The exit statuses of ``grid``, and which one a task's result is."""

from __future__ import annotations

from tasks.result import Result
from tasks.verdicts import Verdict, VerdictClass

FAILED = 1
BAD_INPUT = 2
TIME_LIMIT = 124
NOT_RUN = 125
INTERRUPTED = 130


def exit_status(result: Result) -> int:
    """The status with which ``grid run`` ends.

    0 when the task succeeded; 124 when a time limit ended it (as ``timeout`` has it); 125 when it was cancelled, could
    not be started, or the grid itself failed; else the exit code of its program (128+n when signal n ended it); 1 when
    the program ended well but the task did not, such as when an output is missing.
    """
    return status_of(result.verdict, result.verdict_class, result.exit_code)


def status_of(verdict: Verdict | None, verdict_class: VerdictClass | None, exit_code: int | None) -> int:
    """The same of a verdict and an exit code."""
    if verdict_class is VerdictClass.SUCCESS:
        return 0
    if verdict in (Verdict.TIME_LIMIT, Verdict.CPU_TIME_LIMIT):
        return TIME_LIMIT
    if verdict_class is not VerdictClass.USER or exit_code is None:
        return NOT_RUN
    return exit_code if 0 < exit_code < 256 else FAILED
