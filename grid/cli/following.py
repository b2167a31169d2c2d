"""Following a task from a terminal: its output as it comes, and how to come back after Ctrl-C."""

from __future__ import annotations

import sys
import threading
from typing import BinaryIO

from grid.cli import printing
from grid.handle import Result, Task
from tasks.errors import GridError, WaitTimeout

# When a task has not ended by then, people want to know what it waits for.
EXPLAIN_AFTER_SECONDS = 5.0
# The output of a task is complete by the time of its result; this is for a server that is slow to say so.
LAST_OUTPUT_SECONDS = 30.0


def copy_log(task: Task, stream: str, target: BinaryIO, *, follow: bool) -> None:
    """Copy what the task prints to ``target``, as it comes."""
    for chunk in task.log_bytes(follow=follow, stream=stream):
        target.write(chunk)
        target.flush()


def follow(task: Task, *, show: bool) -> Result:
    """The result of the task; meanwhile its output is shown, each stream on ours."""
    copiers = []
    if show:
        copiers = [_Copier(task, "stdout", sys.stdout.buffer), _Copier(task, "stderr", sys.stderr.buffer)]
    for copier in copiers:
        copier.start()
    result = _wait(task)
    for copier in copiers:
        copier.finish()
    return result


def _wait(task: Task) -> Result:
    try:
        return task.wait(EXPLAIN_AFTER_SECONDS)
    except WaitTimeout:
        if not task.view.started_at:
            printing.note(f"{task.state}: {task.explain().summary}")
        return task.wait(None)


class _Copier(threading.Thread):
    """Copies one stream; a daemon, so that Ctrl-C does not wait for it."""

    def __init__(self, task: Task, stream: str, target: BinaryIO) -> None:
        super().__init__(name=f"log-{stream}", daemon=True)
        self._copied = (task, stream, target)
        self._error: GridError | OSError | None = None

    def run(self) -> None:
        task, stream, target = self._copied
        try:
            copy_log(task, stream, target, follow=True)
        except (GridError, OSError) as error:
            self._error = error

    def finish(self) -> None:
        """Wait for the rest of the output; a reader who has gone away is told of like everywhere else."""
        self.join(LAST_OUTPUT_SECONDS)
        if isinstance(self._error, OSError):
            raise self._error
        if self._error is not None:
            printing.note(f"the output could not be followed: {self._error}")
