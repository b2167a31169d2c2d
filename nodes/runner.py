"""One attempt from start to end, without Celery: stage, run, collect, and say what was seen."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from nodes import workspace as workspaces
from nodes.attempt import AttemptFolder, Running
from nodes.cleaning import Cleaner
from nodes.collect import Caps, collect
from nodes.config import NodeConfig
from nodes.cores import Cores
from nodes.faults import fault_of
from nodes.imagecache import Image
from nodes.images import Images
from nodes.journal import event
from nodes.logs import LogFiles, LogShipper
from nodes.packing import Packed, pack
from nodes.roomwatch import RoomWatch
from nodes.runtimes import Exit, Job, Runtime
from nodes.server import Home
from nodes.spool import Unreported
from nodes.staging import BlobCache, Staging, WorkspaceFull
from nodes.sweeping import left_behind, sweep_probes
from nodes.workspace import Workspace, WorkspaceKind
from tasks.errors import NodeFault, Stale
from tasks.outcome import Evidence, NodeFaultEvidence, Outcome, PhaseTimes, Usage
from tasks.profiles import Profile
from tasks.states import Phase, StopCause

TASK_UID = 65532
TASK_GID = 65532
# Who the program is, and to whom its files belong.
_OWNERS = {Profile.STANDARD: (TASK_UID, TASK_GID), Profile.JUDGE: (0, 0)}
# Pulls that may go on at one time; more wait for their turn, and can be cancelled meanwhile.
_PULLS = 32
_STOP_POLL_SECONDS = 0.1
_FETCHED_SECONDS = 0.5
# How a shell tells of SIGXFSZ.
_FILE_TOO_LARGE = 128 + 25
# A workspace holds somewhat more than its limit.
_WORKSPACE_SPARE_BYTES = 4 << 20

_log = logging.getLogger(__name__)


def owner_of(profile: Profile) -> tuple[int, int]:
    """The uid and gid of a task's program and of its files."""
    return _OWNERS[profile]


class _Stopped(Exception):
    """The attempt was asked to end before its program began."""


class Watcher(Protocol):
    """Whoever looks after the node."""

    def look_now(self) -> None:
        """Something went wrong, or an image came."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a runner works with; each is shared by all attempts of the node."""

    runtime: Runtime
    images: Images
    cores: Cores
    workspace_kind: WorkspaceKind
    health: Watcher


@dataclass(slots=True)
class _Seen:
    """What has been seen of an attempt so far; it becomes the outcome."""

    running: Running
    evidence: Evidence = field(default_factory=Evidence)
    usage: Usage = field(default_factory=Usage)
    seconds: dict[str, float] = field(default_factory=dict)
    not_enforced: tuple[str, ...] = ()
    image_digest: str = ""
    packed: Packed = field(default_factory=Packed)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Note how long a phase takes, also when it fails."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = time.monotonic() - start

    def learn(self, **facts: object) -> None:
        """Add to the evidence."""
        self.evidence = self.evidence.model_copy(update=facts)


class Runner:
    """Runs attempts, many at a time, each in the thread of its caller."""

    def __init__(self, config: NodeConfig, server: Home, parts: Parts) -> None:
        self._config = config
        self._server = server
        self._parts = parts
        self._workspaces = config.workspaces
        self._workspaces.mkdir(parents=True, exist_ok=True, mode=0o711)
        blobs = BlobCache(config.blobs, config.cache_bytes)
        self._staging = {profile: Staging(blobs, *owner) for profile, owner in _OWNERS.items()}
        self._shipper = LogShipper(server)
        self._rooms = RoomWatch()
        self._cleaner = Cleaner(self._remove)
        self._pulls = ThreadPoolExecutor(_PULLS, thread_name_prefix="image")
        self._adopted: set[str] = set()

    def start(self) -> None:
        """Start what works beside the attempts."""
        self._shipper.start()
        self._rooms.start()

    def close(self) -> None:
        """Stop what works beside the attempts; those that run go on in their containers."""
        self._shipper.close()
        self._rooms.close()
        self._cleaner.close()
        self._pulls.shutdown(wait=False, cancel_futures=True)

    def sweep(self, keep: Collection[str], running: Collection[str]) -> None:
        """Remove what attempts outside of ``keep`` have left here. Faults are logged, a later start tries again.

        Of those in ``keep`` that are not ``running`` only the files are wanted, until their outcome is reported: the
        containers go.
        """
        try:
            for attempt in self._parts.runtime.reap(running):
                _log.info(event("reaped", attempt=attempt))
        except NodeFault as fault:
            _log.error(event("not_swept", message=str(fault)))
        for attempt in sorted(left_behind(self._config) - set(keep)):
            self.clean(attempt)
        sweep_probes(self._config.directory, time.time())

    def adopt(self, running: Running) -> None:
        """Take the cores of an attempt that a former start began, before others can be given them."""
        self._adopted.add(running.attempt)
        self._parts.cores.retake(running.attempt, running.folder.cores())

    def clean(self, attempt: str) -> None:
        """Remove all that is left of an attempt here, in the background."""
        self._cleaner.put(attempt)

    def _remove(self, attempt: str) -> None:
        workspaces.destroy(self._workspaces / attempt)
        AttemptFolder(self._config.attempts / attempt).remove()

    def run(self, running: Running, logs: LogFiles) -> Unreported | None:
        """Run one attempt to its end, whatever that is; None when its lease was lost and there is nothing to report.

        An attempt that a former start of the agent began is gone on with. ``logs`` gets the captured streams.
        """
        seen = _Seen(running)
        try:
            with self._parts.images.using(running.order.spec.image or ""):
                self._attempt(seen, logs)
        except _Stopped:
            seen.learn(stopped=running.stop.cause, stop_reason=running.stop.reason)
        except Stale as error:
            running.stop.request(StopCause.LEASE_LOST, str(error))
            return None
        except NodeFault as fault:
            self._failed(seen, fault)
        except OSError as error:
            _log.exception(event("unexpected", attempt=running.attempt, task=running.order.task))
            self._failed(seen, fault_of(error, "runtime_error"))
        except Exception as error:  # noqa: BLE001 - the outermost loop of an attempt: it has to end with an outcome
            _log.exception(event("unexpected", attempt=running.attempt, task=running.order.task))
            self._failed(seen, NodeFault("runtime_error", f"{type(error).__name__}: {error}"))
        finally:
            self._shipper.unfollow(running.attempt)
            # Of an adopted attempt that did not come as far as to its program, which gives them back otherwise.
            self._parts.cores.release(running.attempt)
            self._end_adopted(running.attempt)
        if seen.evidence.stopped is StopCause.LEASE_LOST:
            return None
        return self._unreported(seen, logs)

    def _end_adopted(self, attempt: str) -> None:
        """When an adopted attempt ends before we have come as far as to its program, that may still be running."""
        if attempt not in self._adopted:
            return
        self._adopted.discard(attempt)
        try:
            self._parts.runtime.kill(attempt)
        except NodeFault as fault:
            _log.error(event("not_swept", attempt=attempt, message=str(fault)))

    def _attempt(self, seen: _Seen, logs: LogFiles) -> None:
        running = seen.running
        room, image = self._prepare(seen)
        if room is None:
            return
        with self._rooms.watching(room) as fill, seen.timed("run"):
            running.enter(Phase.EXECUTING, time.monotonic())
            end = self._execute(seen, room, image, logs)
        seen.usage = end.usage.model_copy(update={"storage_peak_bytes": fill.peak_bytes})
        seen.not_enforced = end.not_enforced
        # A single file larger than the whole folder may be: the kernel ends the program before the folder is full.
        too_large = end.exit_code == _FILE_TOO_LARGE and room.limit_bytes is not None
        stored = fill.storage_full or too_large or end.storage_full
        full = {"storage_full": stored, "files_full": fill.files_full}
        seen.learn(**{**_evidence_of(end), **full})
        if end.stopped in (StopCause.LEASE_LOST, StopCause.HANDED_BACK):
            return
        running.enter(Phase.COLLECTING, time.monotonic())
        with seen.timed("collect"):
            self._collect(seen, room)

    # ----------------------------------------------------------------------------------------------------- preparing

    def _prepare(self, seen: _Seen) -> tuple[Workspace | None, Image]:
        """Make the workspace with the files in it, and fetch the image meanwhile; no workspace when they do not fit."""
        running, order = seen.running, seen.running.order
        if order.spec.image is None:
            raise NodeFault("image_not_found", "the task names no image")
        pull = self._pulls.submit(self._pull, seen, order.spec.image)
        with seen.timed("stage_in"):
            room = self._stage(seen)
        while not wait((pull,), _STOP_POLL_SECONDS).done:
            if running.stop.requested:
                raise _Stopped
        image = pull.result()
        seen.image_digest = image.digest
        return room, image

    def _pull(self, seen: _Seen, reference: str) -> Image:
        with seen.timed("pull"):
            image = self._parts.images.ensure(reference)
        if seen.seconds["pull"] > _FETCHED_SECONDS:
            # It was not there before: the server places tasks where their images are.
            self._parts.health.look_now()
        return image

    def _stage(self, seen: _Seen) -> Workspace | None:
        running, order = seen.running, seen.running.order
        folder = self._workspaces / running.attempt
        limits = {"limit_bytes": order.limits.storage, "limit_files": order.limits.files}
        kind = self._parts.workspace_kind
        if running.folder.staged.exists() and (room := workspaces.reopen(folder, kind=kind, **limits)):
            return room
        workspaces.destroy(folder)
        profile = Profile(order.spec.profile)
        room = workspaces.create(folder, kind=kind, owner=_OWNERS[profile], **limits)

        @contextmanager
        def download(sha256: str) -> Iterator[Iterator[bytes]]:
            with self._server.blob(order.attempt, order.token, sha256) as chunks:
                yield _until_stopped(chunks, running)

        try:
            self._staging[profile].put(room.path, order.files, order.inline, download)
            if room.fullness().storage_full:
                raise WorkspaceFull("the input files alone are more than the task may store")
        except WorkspaceFull as error:
            fullness = room.fullness()
            seen.learn(files_full=fullness.files_full, storage_full=not fullness.files_full, start_error=str(error))
            return None
        running.folder.staged.touch()
        return room

    # ----------------------------------------------------------------------------------------------------- executing

    def _execute(self, seen: _Seen, room: Workspace, image: Image, logs: LogFiles) -> Exit:
        running, order, folder = seen.running, seen.running.order, seen.running.folder
        spec = order.spec
        profile = Profile(spec.profile)
        merged = spec.stdout is not None and spec.stdout == spec.stderr
        stderr = folder.stdout if merged else folder.stderr
        logs.paths = {"stdout": folder.stdout} if merged else {"stdout": folder.stdout, "stderr": stderr}
        with self._parts.cores.taken(order.attempt, order.limits.cpus) as cores:
            folder.keep_cores(cores)
            job = Job(
                attempt=order.attempt,
                task=order.task,
                node=self._config.identity,
                image=image.id,
                args=spec.args,
                environment={**spec.environment, **order.secrets},
                limits=order.limits,
                workspace=room.path,
                stdout=folder.stdout,
                stderr=stderr,
                stdin=room.path / spec.stdin if spec.stdin else None,
                cores=cores,
                uid=_OWNERS[profile][0],
                gid=_OWNERS[profile][1],
                profile=profile,
                observer=self._observer(),
            )
            if running.stop.requested:
                raise _Stopped
            self._shipper.follow(logs)
            return self._parts.runtime.run(job, running.stop)

    def _observer(self) -> Path | None:
        """The socket of the observer, if it is there."""
        socket = self._config.observer
        return socket if socket is not None and socket.is_socket() else None

    def _collect(self, seen: _Seen, room: Workspace) -> None:
        folder, order = seen.running.folder, seen.running.order
        spec, caps = order.spec, Caps()
        if order.max_file_bytes is not None:
            caps = replace(caps, file_bytes=min(caps.file_bytes, order.max_file_bytes))
        if order.limits.storage is not None:
            # Files of holes: next to nothing in the workspace, but read and sent they are as large as they claim.
            most = order.limits.storage + _WORKSPACE_SPARE_BYTES
            caps = replace(caps, total_bytes=min(caps.total_bytes, most))
        # A former start may have been killed while it copied.
        shutil.rmtree(folder.collected, ignore_errors=True)
        collected = collect(room.path, spec.collect, into=folder.collected, caps=caps)
        streams = {name: path for name, path in ((spec.stdout, folder.stdout), (spec.stderr, folder.stderr)) if name}
        if spec.stdout and spec.stdout == spec.stderr:
            streams[spec.stdout] = folder.stdout
        seen.packed = pack(streams.items(), collected, order.max_file_bytes)
        seen.learn(
            missing=collected.missing,
            refused_files=tuple(seen.packed.refused),
            too_large=tuple(seen.packed.too_large),
        )

    # ----------------------------------------------------------------------------------------------------- reporting

    def _failed(self, seen: _Seen, fault: NodeFault) -> None:
        running = seen.running
        _log.warning(event("fault", attempt=running.attempt, task=running.order.task, message=str(fault)))
        seen.learn(fault=NodeFaultEvidence(kind=fault.kind, message=fault.message))
        if running.stop.cause in (StopCause.CANCELLED, StopCause.LEASE_LOST, StopCause.HANDED_BACK):
            seen.learn(stopped=running.stop.cause, stop_reason=running.stop.reason)
        self._parts.health.look_now()

    def _unreported(self, seen: _Seen, logs: LogFiles) -> Unreported:
        order = seen.running.order
        outcome = Outcome(
            attempt=order.attempt,
            token=order.token,
            evidence=seen.evidence,
            usage=seen.usage,
            phases=PhaseTimes(**seen.seconds),
            limits=order.limits,
            not_enforced=tuple(dict.fromkeys((*order.not_enforced, *seen.not_enforced))),
            image_digest=seen.image_digest,
            files=tuple(seen.packed.files),
            inline=seen.packed.inline,
        )
        paths = {stream: str(path) for stream, path in logs.paths.items()}
        return Unreported(outcome=outcome, task=order.task, uploads=seen.packed.uploads, logs=paths)


def _until_stopped(chunks: Iterator[bytes], running: Running) -> Iterator[bytes]:
    for chunk in chunks:
        if running.stop.requested:
            raise _Stopped
        yield chunk


def _evidence_of(end: Exit) -> dict[str, object]:
    """The facts of an exit that are evidence under the same name."""
    return {name: getattr(end, name) for name in Evidence.model_fields if hasattr(end, name)}
