"""The client of a grid: submit a folder, find tasks, wait for results; and the same as plain functions."""

from __future__ import annotations

import atexit
import base64
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypedDict, Unpack

from grid import config
from grid.api import Api
from grid.folder import INLINE_FILE_BYTES, INLINE_TOTAL_BYTES, LocalFile, Overrides, Package, read_file, read_folder
from grid.handle import Result, Task
from grid.saving import Progress, no_progress
from tasks.errors import Fault, NotFound, SpecError
from tasks.views import MOST_BULK, BulkBody, BulkTask, CheckView, SubmitBody, TokenView

MAX_PAGE = 500
# How many of the newest tasks a short id is looked up among.
PREFIX_DEPTH = 2000
MIN_PREFIX = 2


class SubmitOptions(TypedDict, total=False):
    """What may be said beside the folder; ``limits`` are in the units of ``task.json`` and replace those in it.

    ``idempotency_key`` makes a submit that is repeated by another process the same task.
    """

    name: str | None
    limits: Mapping[str, object] | None
    labels: Mapping[str, str] | None
    progress: Progress
    idempotency_key: str


class Filters(TypedDict, total=False):
    """Which tasks to list; ``label`` is written ``key=value``, ``text`` is looked for in names and ids."""

    state: str | None
    verdict: str | None
    owner: str | None
    node: str | None
    label: str | None
    text: str | None


class Client(Api):
    """A grid at an address; without arguments the one of the configuration. Threads may share it.

    ``Client`` has every verb of the server as a method (see ``Api``), and these on top, which give handles.
    """

    def submit(self, task_dir: str | os.PathLike[str], **options: Unpack[SubmitOptions]) -> Task:
        """Submit the task in the folder; only files that the server does not have are sent.

        Raises SpecError with every fault of the folder, and GridError. A lost answer is asked for again.
        """
        overrides = Overrides(options.get("name"), options.get("labels") or {}, options.get("limits") or {})
        return self.submit_package(read_folder(task_dir, overrides), **options)

    def submit_package(self, package: Package, **options: Unpack[SubmitOptions]) -> Task:
        """Submit a task that was read before, of ``grid.folder``; of the options those of the way there count."""
        inline = self._send_files(package.files, options.get("progress", no_progress))
        body = SubmitBody(spec=package.spec, blobs=inline, name=package.name)
        return Task(self, self.create_task(body, options.get("idempotency_key") or uuid.uuid4().hex))

    def keep_file(self, path: str | os.PathLike[str]) -> str:
        """Upload a file for later tasks, which name it by ``{"reference": sha256}``; returns that sha256."""
        local = read_file(path)
        if self.missing_blobs([local.sha256]):
            self.put_blob(local.sha256, _stream(local, 0, local.size, no_progress), local.size)
        return local.sha256

    def check(self, task_dir: str | os.PathLike[str], **options: Unpack[SubmitOptions]) -> CheckView:
        """What a submit of the folder would say, and what similar tasks of yours really used; nothing is sent or made.

        Raises SpecError with every fault of the folder itself, and GridError.
        """
        overrides = Overrides(options.get("name"), options.get("labels") or {}, options.get("limits") or {})
        package = read_folder(task_dir, overrides)
        return self.check_task(SubmitBody(spec=package.spec, name=package.name))

    def submit_many(self, task_dirs: Iterable[str | os.PathLike[str]], **options: Unpack[SubmitOptions]) -> list[Task]:
        """Submit the tasks in many folders, in their order; the options hold for each of them.

        Nothing is sent before all folders were read, and of each thousand all are made or none. Raises SpecError with
        the faults of all folders, and GridError. Lost answers are asked for again.
        """
        overrides = Overrides(options.get("name"), options.get("labels") or {}, options.get("limits") or {})
        packages = _packages(task_dirs, overrides)
        files = {sha256: local for package in packages for sha256, local in package.files.items()}
        self._send_files(files, options.get("progress", no_progress), inline=False)
        key = options.get("idempotency_key") or uuid.uuid4().hex
        found: list[Task] = []
        for start in range(0, len(packages), MOST_BULK):
            part = packages[start : start + MOST_BULK]
            body = BulkBody(tasks=tuple(BulkTask(spec=one.spec, name=one.name) for one in part))
            found += [Task(self, view) for view in self.create_tasks(body, f"{key}-{start}" if start else key)]
        return found

    def run(
        self, task_dir: str | os.PathLike[str], *, timeout: float | None = None, **options: Unpack[SubmitOptions]
    ) -> Result:
        """Submit the task in the folder and wait for its result, by default for ever."""
        return self.submit(task_dir, **options).wait(timeout)

    def get(self, task_id: str) -> Task:
        """The task of this id. Raises NotFound."""
        return Task(self, self.view(task_id))

    def find(self, prefix: str) -> Task:
        """The task whose id begins like this, among the newest ones. Raises NotFound when there is not just one."""
        try:
            return self.get(prefix)
        except NotFound:
            if len(prefix) < MIN_PREFIX:
                raise
        matches = [task for task in self.each_task(PREFIX_DEPTH) if task.id.startswith(prefix)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            shown = ", ".join(task.id for task in matches[:3])
            raise NotFound(f"{len(matches)} tasks have an id that begins with {prefix}: {shown}...")
        raise NotFound(f"there is no task {prefix}; `grid list` shows those you may see")

    def list_tasks(self, *, limit: int = 50, **filters: Unpack[Filters]) -> list[Task]:
        """The newest tasks you may see, at most ``limit``."""
        return list(self.each_task(limit, **filters))

    def each_task(self, limit: int, **filters: Unpack[Filters]) -> Iterator[Task]:
        """The same as ``list_tasks``, page by page as they are needed."""
        wanted = {name: str(value) for name, value in filters.items() if value}
        after = ""
        while limit > 0:
            page = self.page(wanted, min(limit, MAX_PAGE), after)
            for view in page.items[:limit]:
                yield Task(self, view)
            limit -= len(page.items)
            after = page.next
            if not after:
                return

    def tokens(self, owner: str = "") -> tuple[TokenView, ...]:
        """The caller's tokens, or everybody's (or one owner's) for operators, newest first."""
        page = self.token_page(owner, limit=MAX_PAGE)
        found = page.items
        while page.next:
            page = self.token_page(owner, page.next, MAX_PAGE)
            found += page.items
        return found

    def _send_files(self, files: Mapping[str, LocalFile], progress: Progress, *, inline: bool = True) -> dict[str, str]:
        """Upload what is large, and return what is small enough to travel in the submit itself (base64 by sha256)."""
        if files and not (inline and _travel_inline(files.values())):
            missing = self.missing_blobs(files)
            files = {sha256: files[sha256] for sha256 in missing if sha256 in files}
        small, large = _parted(files) if inline else ({}, files)
        total = sum(one.size for one in large.values())
        done = 0
        for local in large.values():
            self.put_blob(local.sha256, _stream(local, done, total, progress), local.size)
            done += local.size
        return small


def _packages(task_dirs: Iterable[str | os.PathLike[str]], overrides: Overrides) -> list[Package]:
    """What is in the folders; raises SpecError with the faults of all of them."""
    packages: list[Package] = []
    faults: list[Fault] = []
    for task_dir in task_dirs:
        try:
            packages.append(read_folder(task_dir, overrides))
        except SpecError as error:
            name = os.fspath(task_dir)
            faults += [Fault(f"{name}: {one.path}".rstrip(": "), one.message, one.hint) for one in error.faults]
    if faults:
        raise SpecError(faults)
    return packages


def _stream(local: LocalFile, base: int, total: int, progress: Progress) -> Callable[[], Iterable[bytes]]:
    """A stream of the file that can be begun again, and that tells how far it has come."""

    def begin() -> Iterator[bytes]:
        done = base
        for chunk in local.chunks():
            yield chunk
            done += len(chunk)
            progress(done, total)

    return begin


def _travel_inline(files: Iterable[LocalFile]) -> bool:
    sizes = [one.size for one in files]
    return all(size <= INLINE_FILE_BYTES for size in sizes) and sum(sizes) <= INLINE_TOTAL_BYTES


def _parted(files: Mapping[str, LocalFile]) -> tuple[dict[str, str], dict[str, LocalFile]]:
    small: dict[str, str] = {}
    large: dict[str, LocalFile] = {}
    room = INLINE_TOTAL_BYTES
    for sha256, local in files.items():
        if local.size <= min(INLINE_FILE_BYTES, room):
            small[sha256] = base64.b64encode(b"".join(local.chunks())).decode("ascii")
            room -= local.size
        else:
            large[sha256] = local
    return small, large


class _Default:
    """The client behind the functions of the module: one for each process and configuration."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made_for: tuple[int, config.Config] | None = None
        self._client: Client | None = None

    def get(self) -> Client:
        wanted = (os.getpid(), config.load())
        with self._lock:
            if self._client is None or self._made_for != wanted:
                self._client = Client(wanted[1].server, wanted[1].token)
                self._made_for = wanted
                atexit.register(self._close, self._client, os.getpid())
            return self._client

    def _close(self, client: Client, owner: int) -> None:
        # After a fork the connections still belong to the parent.
        if os.getpid() == owner:
            client.close()


_default = _Default()


def submit(task_dir: str | os.PathLike[str], **options: Unpack[SubmitOptions]) -> Task:
    """Submit the task in the folder to the grid of the configuration; see ``Client.submit``."""
    return _default.get().submit(task_dir, **options)


def submit_many(task_dirs: Iterable[str | os.PathLike[str]], **options: Unpack[SubmitOptions]) -> list[Task]:
    """Submit the tasks in many folders to the grid of the configuration; see ``Client.submit_many``."""
    return _default.get().submit_many(task_dirs, **options)


def run(task_dir: str | os.PathLike[str], *, timeout: float | None = None, **options: Unpack[SubmitOptions]) -> Result:
    """Submit the task in the folder and wait for its result, by default for ever."""
    return _default.get().run(task_dir, timeout=timeout, **options)


def get(task_id: str) -> Task:
    """The task of this id. Raises NotFound."""
    return _default.get().get(task_id)


def list_tasks(*, limit: int = 50, **filters: Unpack[Filters]) -> list[Task]:
    """The newest tasks you may see, at most ``limit``."""
    return _default.get().list_tasks(limit=limit, **filters)
