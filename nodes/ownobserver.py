"""An observer for one run on a machine that has none: it is started with the run and goes with it."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PATIENCE_SECONDS = 15.0
_LOOK_SECONDS = 0.005
_prctl = ctypes.CDLL(None, use_errno=True).prctl


@dataclass(frozen=True, slots=True)
class OwnObserver:
    """One in a process of its own, which answers at ``socket`` when :meth:`wait` has returned True."""

    socket: Path
    process: subprocess.Popen[bytes]

    def wait(self) -> bool:
        """Until it answers; False when it ended instead, or takes too long: it has said why."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(self.socket)) == 0:
                    return True
            time.sleep(_LOOK_SECONDS)
        return False


@contextmanager
def own_observer() -> Iterator[OwnObserver]:
    """Start one, and end it with all sessions that it has. Its folder is short: paths of sockets may not be long."""
    with tempfile.TemporaryDirectory(prefix="grid-observer-", dir="/run", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        path = Path(name) / "socket"
        command = [sys.executable, "-m", "observer", "serve", "--kolejka", "--socket", str(path)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_us, start_new_session=True)
        try:
            yield OwnObserver(path, process)
        finally:
            process.terminate()
            process.wait()


def _end_with_us() -> None:
    """Nobody is left who would end it when this process is killed."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
