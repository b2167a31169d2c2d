"""The socket of an observer, and how its process runs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import resource
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from observer.cgroups.boxes import sweep
from observer.cgroups.layout import detect
from observer.cgroups.membership import PREFIX
from observer.protocol import DEFAULT_SOCKET
from observer.server import Bounds, Observer
from observer.sessions import SESSIONS_EACH, Sessions
from observer.timekeeper import Timekeeper

log = logging.getLogger("observer")
_BACKLOG = 1024


class AlreadyRunning(Exception):
    """Another observer answers at this socket."""


@dataclass(frozen=True, slots=True)
class Options:
    """How an observer runs: at which ``sockets``, with how many sessions for each container.

    ``kolejka`` makes it answer as kolejka's does: statistics need no secret within the container.
    """

    sockets: tuple[Path, ...] = (DEFAULT_SOCKET,)
    sessions_each: int = SESSIONS_EACH
    kolejka: bool = False
    bounds: Bounds | None = None


def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Raises AlreadyRunning, and OSError without control groups or the right to them."""
    layout = detect()
    if not layout.version:
        raise OSError("no control groups are mounted")
    _raise_file_limit()
    tag = hashlib.sha256(str(options.sockets[0].absolute()).encode()).hexdigest()[:8]
    with contextlib.ExitStack() as stack:
        timekeeper = stack.enter_context(contextlib.closing(Timekeeper(layout)))
        listeners = [stack.enter_context(_listener(path)) for path in options.sockets]
        if left := sweep(layout, f"{PREFIX}{tag}_"):
            log.warning("removed %s groups of an observer that was killed", left)
        sessions = Sessions(layout, tag=tag, each=options.sessions_each, open_stats=options.kolejka)
        log.info("answering at %s, control groups v%s", ", ".join(map(str, options.sockets)), layout.version)
        asyncio.run(_until_told(Observer(layout, sessions, timekeeper, options.bounds), listeners))


async def _until_told(observer: Observer, listeners: Sequence[socket.socket]) -> None:
    serving = asyncio.ensure_future(observer.serve(listeners))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


@contextlib.contextmanager
def _listener(path: Path) -> Iterator[socket.socket]:
    """A socket that everybody may connect to: who they are is asked of the kernel. It goes with its observer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        if _answers(path):
            raise AlreadyRunning(f"another observer answers at {path}")
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Asked of the socket and not of a lock: a file in this folder could be locked from within a container."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _raise_file_limit() -> None:
    """Counters are kept open, a dozen for each session."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
