"""One task on this machine and beside any grid: the runner, runtime, collection and verdicts of a node, for one order.

Each run has a folder of its own below a base folder. What a killed run has left there is swept by the next.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from nodes import workspace as workspaces
from nodes.attempt import AttemptFolder, Running
from nodes.config import NodeConfig, default_name
from nodes.cores import Cores
from nodes.facts import gather
from nodes.images import Images
from nodes.lock import AlreadyRunning, NodeLock
from nodes.logs import LogFiles
from nodes.ownobserver import own_observer
from nodes.runner import Parts, Runner, owner_of
from nodes.runtimes.docker import DockerRuntime
from nodes.runtimes.docker.images import DockerImages
from nodes.runtimes.docker.shell import Inside, shell_command
from nodes.server import CHUNK_BYTES
from nodes.spool import Unreported
from nodes.sweeping import left_behind, sweep_devices
from tasks.errors import NodeFault, NotFound
from tasks.limits import LIMIT_NAMES
from tasks.order import Facts, LoneOrder, Order
from tasks.profiles import Profile
from tasks.result import Result, RunFacts, TaskFacts, build_result
from tasks.states import Phase, StopCause
from tasks.verdicts import judge

RECORD, BLOBS, LOGS = "result.json", "blobs", "logs"
"""What a run leaves in the folder of its caller: its record, the contents by sha256, the captured streams."""

_TEMPLATES = ".templates"


@dataclass(frozen=True, slots=True)
class Ways:
    """How to run: ``base`` is the folder of all runs, ``echo`` shows what the program prints, ``shell`` opens one."""

    base: Path
    observer: Path | None = None
    pull: bool = True
    echo: bool = True
    shell: bool = False


class Desk:
    """What a server is to a node: gives the inputs from this machine's files, and shows the output as it comes."""

    def __init__(self, contents: Mapping[str, str], *, echo: bool) -> None:
        self._contents, self._echo = contents, echo

    @contextmanager
    def blob(self, attempt: str, token: str, sha256: str) -> Iterator[Iterator[bytes]]:
        """The content of an input. Raises NotFound."""
        try:
            with Path(self._contents[sha256]).open("rb") as file:
                yield iter(lambda: file.read(CHUNK_BYTES), b"")
        except (KeyError, FileNotFoundError) as error:
            raise NotFound(f"the content {sha256} is not here") from error

    def send_log(self, attempt: str, token: str, stream: str, offset: int, data: bytes) -> int:
        """Show a piece of a stream where the program itself would have printed it."""
        if self._echo:
            out = sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer
            out.write(data)
            out.flush()
        return offset + len(data)


class _Nobody:
    """Nobody looks after a machine that runs one task."""

    def look_now(self) -> None:
        """Nothing to look at."""


def execute(given: LoneOrder, keep: Path, ways: Ways) -> Result:
    """Run an order to its end and leave what came of it in the folder ``keep``; SIGINT and SIGTERM cancel it.

    Raises NodeFault when the engine does not answer, OSError when there is no room.
    """
    ways.base.mkdir(parents=True, exist_ok=True, mode=0o711)
    _sweep(ways.base)
    here = ways.base / given.order.attempt
    lock = NodeLock(here)
    try:
        if _lacks_observer(given.order, ways):
            with own_observer() as observer:
                run = _Run(given, here, replace(ways, observer=observer.socket))
                if not observer.wait():
                    _tell("the observer does not start: the task has none")
                return run.to_end(keep)
        return _Run(given, here, ways).to_end(keep)
    finally:
        lock.release()
        shutil.rmtree(here, ignore_errors=True)


def _lacks_observer(order: Order, ways: Ways) -> bool:
    """Judges ask for an observer, and only root may be one."""
    return order.spec.profile == Profile.JUDGE and ways.observer is None and os.geteuid() == 0


class _Run:
    """One order with the parts of a node around it."""

    def __init__(self, given: LoneOrder, here: Path, ways: Ways) -> None:
        self._config = _config(here, ways)
        self._ways, self._desk = ways, Desk(given.contents, echo=ways.echo)
        self._runtime = DockerRuntime(self._config.identity)
        _share_templates(self._config.workspaces, ways.base)
        kind = workspaces.probe(self._config.workspaces)
        self._facts: Facts = gather(self._config, self._runtime, kind)
        source = DockerImages(self._runtime.engine)
        images = Images(source, pull=ways.pull)
        parts = Parts(self._runtime, images, Cores(), kind, _Nobody())
        self._runner = Runner(self._config, self._desk, parts)
        self._order = _with_unheld(given.order, self._facts)
        self._folder = AttemptFolder(self._config.attempts / self._order.attempt)

    def to_end(self, keep: Path) -> Result:
        """Run it, keep what came of it, open the shell if one is wanted, and clean up."""
        began = datetime.now(UTC)
        logs = LogFiles(self._order.attempt, self._order.token, {})
        self._runner.start()
        try:
            self._folder.keep(self._order)
            unreported = self._run(logs)
            logs.ship(self._desk)
            result = self._result(unreported, began)
            _keep(unreported, result, keep)
            if self._ways.shell and not result.succeeded:
                self._open_shell(unreported)
            return result
        finally:
            self._runner.clean(self._order.attempt)
            self._runner.close()
            self._runtime.close()

    def _run(self, logs: LogFiles) -> Unreported:
        running = Running(self._order, self._folder, time.monotonic(), Phase.STAGING)
        with ThreadPoolExecutor(1, thread_name_prefix="attempt") as pool, _cancelled_by_signals(running):
            unreported = pool.submit(self._runner.run, running, logs).result()
        if unreported is None:
            raise NodeFault("runtime_error", "the attempt came to no end")
        return unreported

    def _result(self, unreported: Unreported, began: datetime) -> Result:
        order, outcome = self._order, unreported.outcome
        judgement = judge(outcome.evidence, outcome.usage, outcome.limits, order.spec.args)
        task = TaskFacts(order.task, order.spec, queued_at=began, finished_at=datetime.now(UTC))
        run = RunFacts(order.attempt, order.number, self._config.name, self._facts.tags, began, outcome)
        return build_result(task, run, judgement)

    def _open_shell(self, unreported: Unreported) -> None:
        spec, profile = self._order.spec, Profile(self._order.spec.profile)
        workspace = self._config.workspaces / self._order.attempt / "task"
        if not workspace.is_dir() or not unreported.outcome.image_digest:
            _tell("there is no container to look into: the task did not come as far as that")
            return
        inside = Inside(
            image=spec.image or "",
            environment=dict(spec.environment),
            workspace=workspace,
            owner=owner_of(profile),
            profile=profile,
            network=bool(self._order.limits.network),
            memory=self._order.limits.memory,
        )
        _tell("a shell in the task's folder and image; leave it with exit")
        command = shell_command(inside, self._config.directory / "seccomp.json")
        try:
            subprocess.run(command, check=False)
        except FileNotFoundError:
            _tell("the shell is opened by the command docker, which is not there")


def _config(here: Path, ways: Ways) -> NodeConfig:
    """That of a node of no server: it is never called."""
    return NodeConfig(
        server="http://localhost",
        name=default_name(),
        directory=here,
        token="none",  # noqa: S106 - nobody is shown it
        pull=ways.pull,
        observer=ways.observer,
    )


def _with_unheld(order: Order, facts: Facts) -> Order:
    """The order with the limits named that this machine cannot hold its task to."""
    unheld = [name for name in LIMIT_NAMES if getattr(order.limits, name) is not None and name not in facts.enforces]
    return order.model_copy(update={"not_enforced": tuple(unheld)})


def _share_templates(folder: Path, base: Path) -> None:
    """Formatted images of disks are made once for all runs."""
    shared = base / _TEMPLATES
    shared.mkdir(exist_ok=True, mode=0o700)
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    (folder / _TEMPLATES).symlink_to(shared)


@contextmanager
def _cancelled_by_signals(running: Running) -> Iterator[None]:
    def cancel(number: int, frame: FrameType | None) -> None:
        running.stop.request(StopCause.CANCELLED, f"by {signal.Signals(number).name}")

    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _keep(unreported: Unreported, result: Result, keep: Path) -> None:
    """Put the record, the contents and the streams where the caller looks for them."""
    blobs, logs = keep / BLOBS, keep / LOGS
    for folder in (blobs, logs):
        folder.mkdir(parents=True, exist_ok=True)
    for sha256, text in unreported.outcome.inline.items():
        (blobs / sha256).write_bytes(base64.b64decode(text))
    for sha256, path in unreported.uploads.items():
        shutil.copyfile(path, blobs / sha256)
    for stream, path in unreported.logs.items():
        if Path(path).exists():
            shutil.copyfile(path, logs / stream)
    (keep / RECORD).write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _sweep(base: Path) -> None:
    """Remove what runs have left that were killed; those that still go on hold the lock of their folder."""
    for folder in [path for path in base.iterdir() if path.is_dir() and path.name != _TEMPLATES]:
        try:
            lock = NodeLock(folder)
        except AlreadyRunning:
            continue
        config = NodeConfig(server="http://localhost", name=default_name(), directory=folder, token="none")  # noqa: S106
        runtime = DockerRuntime(config.identity)
        try:
            runtime.reap(())
            for attempt in left_behind(config):
                workspaces.destroy(config.workspaces / attempt)
            sweep_devices(config, ())
            shutil.rmtree(folder, ignore_errors=True)
        except NodeFault as fault:
            _tell(f"cannot remove what an earlier run left in {folder}: {fault.message}")
        finally:
            runtime.close()
            lock.release()


def default_base() -> Path:
    """Where runs keep their things unless told otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/celery-grid/worker")
    return Path.home() / ".local" / "share" / "celery-grid" / "worker"


def _tell(message: str) -> None:
    print(f"grid: {message}", file=sys.stderr)  # noqa: T201 - a person reads it
