"""A task and its result as a user holds them: handles that know the server they came from."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import httpx

from grid.api import Api
from grid.saving import Progress, Saver, no_progress
from tasks.errors import Conflict, GridError, WaitTimeout
from tasks.outcome import Usage
from tasks.result import Result as ResultRecord
from tasks.result import ResultFile as FileRecord
from tasks.states import TaskState
from tasks.verdicts import final_state
from tasks.views import AttemptView, EventView, ExplainView, ManyBody, TaskView

SLICE_SECONDS = 25.0
# How long a wait without an end of its own puts up with a server that is away.
LONG_PATIENCE_SECONDS = 300.0
QUICK_ANSWER_SECONDS = 0.2


class ResultFile:
    """One file that came back; its content is fetched when it is read, and checked against its hash."""

    def __init__(self, api: Api, task_id: str, path: str, record: FileRecord) -> None:
        self._api = api
        self._task_id = task_id
        self.path = path
        self.record = record

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.record.size

    @property
    def sha256(self) -> str:
        """The sha256 of the content, in hexadecimal digits."""
        return self.record.reference or ""

    @property
    def executable(self) -> bool:
        """True for a program."""
        return self.record.executable

    def read_bytes(self) -> bytes:
        """The content. Raises GridError when it cannot be fetched whole."""
        target = io.BytesIO()
        self.copy_to(target)
        return target.getvalue()

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The content as text. Raises GridError and UnicodeDecodeError."""
        return self.read_bytes().decode(encoding, errors)

    def copy_to(self, target: BinaryIO, progress: Progress = no_progress) -> None:
        """Write the content into a seekable stream; a broken connection makes it begin again. Raises GridError."""

        def take(response: httpx.Response) -> None:
            target.seek(0)
            target.truncate()
            digest = hashlib.sha256()
            done = 0
            for chunk in response.iter_bytes():
                digest.update(chunk)
                target.write(chunk)
                done += len(chunk)
                progress(done, self.size)
            if digest.hexdigest() != self.sha256:
                raise GridError(f"{self.path} of task {self._task_id} came in broken from {self._api.server}")

        self._api.file(self._task_id, self.path, take)

    def __repr__(self) -> str:
        return f"<ResultFile {self.path!r}, {self.size} bytes>"


class ResultFiles(Mapping[str, ResultFile]):
    """The files of a result by name; a name that is not there says which are."""

    def __init__(self, files: Mapping[str, ResultFile]) -> None:
        self._files = dict(files)

    def __getitem__(self, path: str) -> ResultFile:
        try:
            return self._files[path]
        except KeyError:
            raise KeyError(f"no file {path!r} in the result; there are: {', '.join(self._files) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"<ResultFiles {', '.join(self._files)}>"


class Result:
    """How a task ended: the verdict with its reason, what it used, its files. ``record`` has all of it."""

    def __init__(self, api: Api, task_id: str, record: ResultRecord) -> None:
        self._api = api
        self.id = task_id
        self.record = record
        self.files = ResultFiles({path: ResultFile(api, task_id, path, one) for path, one in record.files.items()})

    @property
    def verdict(self) -> str:
        """One word, such as ``succeeded``, ``exit_code`` or ``memory_limit``."""
        return self.record.verdict

    @property
    def verdict_class(self) -> str:
        """``success``, ``user``, ``infrastructure`` or ``cancelled``."""
        return self.record.verdict_class

    @property
    def reason(self) -> str:
        """One sentence with numbers."""
        return self.record.reason

    @property
    def advice(self) -> str:
        """What to change, when there is a rule for it."""
        return self.record.advice

    @property
    def exit_code(self) -> int | None:
        """The program's exit code; None when it never ran to an end."""
        return self.record.exit_code

    @property
    def usage(self) -> Usage:
        """Resources that the task used, the harness excluded."""
        return self.record.usage

    @property
    def succeeded(self) -> bool:
        """True when the verdict is of class ``success``."""
        return self.record.succeeded

    def download(
        self, directory: str | os.PathLike[str], *, force: bool = False, progress: Progress = no_progress
    ) -> Path:
        """Write all files and ``result.json`` into ``directory`` and return its path.

        Raises GridError when the folder is not empty (``force`` replaces what has the same names) or cannot be written.
        """
        saver = Saver(Path(directory), force=force)
        total = sum(one.size for one in self.files.values())
        done = 0
        for one in self.files.values():
            base = done

            def step(now: int, _: int, base: int = base) -> None:
                progress(base + now, total)

            with saver.open(one.path, executable=one.executable) as target:
                one.copy_to(target, step)
            done += one.size
        saver.write_record(self._json_in_folder().encode(), taken=frozenset(self.files))
        return saver.folder

    def to_json(self) -> str:
        """The text of ``result.json``."""
        return self.record.model_dump_json(indent=2) + "\n"

    def _json_in_folder(self) -> str:
        """The same with the places of the files, as programs that read a result from a folder expect."""
        files = {path: one.record.model_copy(update={"path": path}) for path, one in self.files.items()}
        return self.record.model_copy(update={"files": files}).model_dump_json(indent=2) + "\n"

    def __repr__(self) -> str:
        return f"<Result of {self.id}: {self.verdict}: {self.reason}>"


def _ended(view: TaskView, result: ResultRecord) -> TaskView:
    """The view of a task brought up to its result, without asking again."""
    return view.model_copy(
        update={
            "state": final_state(result.verdict),
            "phase": None,
            "verdict": result.verdict.value,
            "verdict_class": result.verdict_class.value,
            "reason": result.reason,
            "advice": result.advice,
            "exit_code": result.exit_code,
            "attempt": result.attempt_id,
            "attempts": max(view.attempts, result.attempt),
            "node": result.node,
            "started_at": datetime.fromisoformat(result.started_at) if result.started_at else None,
            "finished_at": datetime.fromisoformat(result.finished_at),
        }
    )


class Task:
    """A task in the grid. What it tells is as of the last ``refresh`` or ``wait``; ``view`` holds all of it."""

    def __init__(self, api: Api, view: TaskView) -> None:
        self._api = api
        self.view = view

    @property
    def id(self) -> str:
        """The task's id."""
        return self.view.id

    @property
    def name(self) -> str:
        """The task's name, for people."""
        return self.view.name

    @property
    def state(self) -> TaskState:
        """Where the task is on its way."""
        return self.view.state

    @property
    def final(self) -> bool:
        """True when nothing will happen to the task any more."""
        return self.view.state.final

    @property
    def verdict(self) -> str:
        """How it ended, in one word; empty before."""
        return self.view.verdict

    @property
    def reason(self) -> str:
        """Why it ended so; empty before."""
        return self.view.reason

    @property
    def node(self) -> str:
        """The node of the newest attempt."""
        return self.view.node

    def refresh(self) -> Task:
        """Ask the server how the task is now; returns the task itself. Raises GridError."""
        self.view = self._api.view(self.id)
        return self

    def wait(self, timeout: float | None = 60.0) -> Result:
        """The result, as soon as there is one; ``timeout`` is in seconds, None waits for ever.

        A server that is restarted meanwhile is waited for. Raises WaitTimeout (the task goes on), and GridError.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LONG_PATIENCE_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            began = time.monotonic()
            asked = min(left, SLICE_SECONDS)
            found = self._api.wait_once(self.id, asked, patience_seconds=left)
            if isinstance(found, ResultRecord):
                self.view = _ended(self.view, found)
                return Result(self._api, self.id, found)
            self.view = found
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(f"task {self.id} is still {self.state} after {timeout:g} s; it goes on by itself")
            if time.monotonic() - began < QUICK_ANSWER_SECONDS:
                # Something between us and the server answers long polls at once: do not run in circles.
                time.sleep(min(left, QUICK_ANSWER_SECONDS))

    def result(self) -> Result:
        """The result of a final task. Raises Conflict while it is not final."""
        return Result(self._api, self.id, self._api.result(self.id))

    def cancel(self, reason: str = "") -> Task:
        """Ask for the end of the task; returns the task itself. Raises Conflict when it has ended already."""
        self.view = self._api.cancel(self.id, reason)
        return self

    def retry(self) -> Task:
        """Run it again as it was: a new task of the same owner, which is returned, with the label ``retry_of``.

        Raises Conflict while the task has not ended, and when you may only look at it.
        """
        (item,) = self._api.retry_many(ManyBody(ids=(self.id,)), uuid.uuid4().hex).items
        if not item.done:
            raise Conflict(item.reason)
        return Task(self._api, self._api.view(item.made))

    def copy(self, **changes: object) -> Task:
        """Run it again as a new task of yours, which is returned, with the label ``copy_of``.

        ``changes`` replace keys of its description. Its input files have to be yours, or the task yours to change.
        Raises SpecError with every fault.
        """
        spec = {**self._api.spec(self.id), **changes} if changes else None
        return Task(self._api, self._api.copy_task(self.id, spec, uuid.uuid4().hex))

    def remove(self) -> None:
        """Remove it with all that belongs to it. Raises Conflict while it has not ended."""
        self._api.remove_task(self.id)

    def logs(self, *, follow: bool = False, stream: str = "stdout") -> Iterator[str]:
        """What the program printed, in pieces; with ``follow`` until the task has ended. Broken UTF-8 is replaced."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for chunk in self.log_bytes(follow=follow, stream=stream):
            if text := decoder.decode(chunk):
                yield text
        if rest := decoder.decode(b"", final=True):
            yield rest

    def log_bytes(self, *, follow: bool = False, stream: str = "stdout") -> Iterator[bytes]:
        """The same as ``logs``, as bytes. When the task is tried again, the output of the new attempt follows."""
        offset = 0
        attempt = ""
        while True:
            began = time.monotonic()
            part = self._api.log(
                self.id, stream, offset, SLICE_SECONDS if follow else 0.0, LONG_PATIENCE_SECONDS if follow else 20.0
            )
            if part.size < offset or (attempt and part.attempt != attempt):
                offset, attempt = 0, part.attempt
                continue
            attempt = part.attempt
            offset += len(part.data)
            if part.data:
                yield part.data
            elif part.complete or not follow:
                return
            elif time.monotonic() - began < QUICK_ANSWER_SECONDS:
                time.sleep(QUICK_ANSWER_SECONDS)
            if part.complete and offset >= part.size:
                return

    def download(
        self, directory: str | os.PathLike[str], *, force: bool = False, progress: Progress = no_progress
    ) -> Path:
        """Write the result of a final task into ``directory``: all its files and ``result.json``. Raises GridError."""
        return self.result().download(directory, force=force, progress=progress)

    def explain(self) -> ExplainView:
        """Why the task is where it is: position, and what each node has against it."""
        return self._api.explain(self.id)

    def events(self) -> tuple[EventView, ...]:
        """The timeline."""
        return self._api.events(self.id)

    def attempts(self) -> tuple[AttemptView, ...]:
        """The attempts, oldest first."""
        return self._api.attempts(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name!r}: {self.verdict or self.state}>"
