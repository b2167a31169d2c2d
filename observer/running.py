"""Runs a command in a session and tells how it ended: through an observer's socket, or as root without one."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from observer.callers import Caller, Peer, identify
from observer.cgroups.layout import Layout, detect
from observer.client import Client, default_socket
from observer.errors import Failed
from observer.limits import not_enforced, parse_limits
from observer.sessions import Sessions
from observer.stats import Ended, to_json


class Handle(Protocol):
    """A session, wherever it is."""

    def attach(self) -> None:
        """Move the calling process in."""
        ...

    def limit(self, **limits: object) -> tuple[str, ...]:
        """Set limits; answers those that are not held here."""
        ...

    def stats(self) -> dict[str, object]:
        """What was used."""
        ...

    def close(self) -> None:
        """End every process in it, and the session."""
        ...


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: ``exit_code`` is negative where a signal ended it (None: it was not started, ``error`` says
    why), ``stats`` as :func:`observer.stats.to_json` has them, ``seconds`` those of the command itself.
    """

    exit_code: int | None
    seconds: float
    stats: Mapping[str, object]
    ended: Ended | None
    not_enforced: tuple[str, ...] = ()
    error: str = ""


def run(command: Sequence[str], limits: Mapping[str, object], session: Handle, output: IO[bytes] | int | None) -> Ran:
    """Run the command in a session, close that, and tell how it was. Raises ObserverError.

    Must be called where no other threads are: the child joins the session between fork and exec. ``output`` is where
    its standard output goes, None leaves it as it is.
    """
    others = session.limit(**limits)
    begun = time.monotonic()
    try:
        process = subprocess.Popen(list(command), stdout=output, preexec_fn=session.attach)
    except OSError as error:
        session.close()
        return Ran(None, 0.0, {}, None, others, f"{error.strerror}: {command[0]}")
    except subprocess.SubprocessError as error:
        session.close()
        raise Failed("the command could not be moved into its session") from error
    try:
        wait = getattr(session, "wait", None)
        if wait is not None:
            wait(process.pid)
        code = process.wait()
    finally:
        seconds = time.monotonic() - begun
        session.close()
        stats = session.stats()
    ended = stats.get("ended")
    return Ran(code, seconds, stats, None if ended is None else Ended(str(ended)), others)


@contextlib.contextmanager
def session_here(socket: str | None) -> Iterator[Handle]:
    """A session of the observer at ``socket``, or at the usual place; root of the machine needs none to be there."""
    if socket is None and not default_socket().exists() and os.geteuid() == 0 and (layout := detect()).version:
        with contextlib.closing(Local(layout)) as local:
            yield local
        return
    yield Client(socket).open()


class Local:
    """A session that this process keeps itself: it needs no observer, but the right to make control groups."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sessions = Sessions(layout, tag=secrets.token_hex(4))
        self._session = self._sessions.open(self._caller(), time.monotonic())

    def attach(self) -> None:
        """Move the calling process in."""
        self._sessions.attach(self._session, self._caller())

    def limit(self, **limits: object) -> tuple[str, ...]:
        """Set limits; answers those that are not held here."""
        self._sessions.limit(self._session, parse_limits(limits))
        return not_enforced(limits)

    def wait(self, pid: int) -> None:
        """Wait for the end of a process, and end the session when a limit on time or counters is reached before."""
        with Peer.held(pid, 0) as process:
            poll = select.poll()
            poll.register(process.descriptor, select.POLLIN)
            while (pause := self._pause()) is not None:
                if poll.poll(None if pause == math.inf else math.ceil(pause * 1000)):
                    return

    def stats(self) -> dict[str, object]:
        """What was used."""
        return to_json(self._sessions.stats(self._session.id, time.monotonic()))

    def close(self) -> None:
        """End every process in it, and the session."""
        if self._sessions.get(self._session.id) is not None:
            self._sessions.close(self._session, time.monotonic(), Ended.CLOSED)

    def _pause(self) -> float | None:
        """How long no limit can be reached; None when one is, and the session has been ended for it."""
        now, deadline = time.monotonic(), self._session.deadline
        wait, reached = self._sessions.spent(self._session)
        if deadline is not None and now >= deadline:
            reached = Ended.TIME_LIMIT
        if reached is None:
            return wait if deadline is None else min(wait, deadline - now)
        self._session.box.strike()
        self._sessions.close(self._session, now, reached)
        return None

    def _caller(self) -> Caller:
        with Peer.held(os.getpid(), os.getuid()) as peer:
            return identify(peer, self._layout)
