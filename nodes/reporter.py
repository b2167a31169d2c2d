"""Outcomes on their way home: kept on disk first, then sent until the server has answered."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nodes.journal import event
from nodes.logs import TAIL_BYTES, LogFiles
from nodes.server import Server
from nodes.spool import Spool, Unreported
from tasks.errors import GridError, NotAllowed, Stale, TooLarge, Unavailable
from tasks.outcome import NodeFaultEvidence, Outcome, TooLargeFile

RETRY_SECONDS = 2.0
MAX_RETRY_SECONDS = 15.0
# The server names all missing blobs at once; more rounds than this mean that it loses them again.
_ROUNDS = 3

_log = logging.getLogger(__name__)


class Reporter:
    """Reports outcomes and goes on trying; ``done(attempt)`` is called when the server has answered for good."""

    def __init__(self, server: Server, spool: Spool, done: Callable[[str], None]) -> None:
        self._server = server
        self._spool = spool
        self._done = done
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._unwritten: dict[str, Unreported] = {}
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="reporter", daemon=True)

    def start(self) -> None:
        """Start to report what a former start left behind, and what cannot be reported at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop trying; what is in the spool stays there."""
        self._closed.set()
        self._wake.set()

    def wake(self) -> None:
        """Try again at once: the server has just answered something else."""
        self._wake.set()

    def report(self, entry: Unreported, logs: LogFiles) -> bool:
        """Put the outcome on the disk and send it; False when the server is away and it will be sent later."""
        attempt = entry.outcome.attempt
        with self._lock:
            self._busy.add(attempt)
        try:
            self._keep(entry)
            return self._send(entry, logs)
        finally:
            with self._lock:
                self._busy.discard(attempt)

    def pending(self) -> list[Unreported]:
        """The outcomes that are waiting."""
        return list(self._spool.entries())

    def _send(self, entry: Unreported, logs: LogFiles) -> bool:
        attempt, task = entry.outcome.attempt, entry.task
        try:
            self._deliver(entry, logs)
            _log.info(event("reported", attempt=attempt, task=task))
        except Stale as error:
            _log.warning(event("outcome_stale", attempt=attempt, task=task, message=str(error)))
        except (Unavailable, NotAllowed) as error:
            _log.warning(event("report_later", attempt=attempt, task=task, message=str(error)))
            return False
        except (GridError, OSError) as error:
            return self._send_less(entry, str(error))
        self._drop(attempt)
        return True

    def _deliver(self, entry: Unreported, logs: LogFiles) -> None:
        """Send the log, the blobs that the server lacks, and the outcome. Raises as ``Server.report``."""
        began = time.monotonic()
        logs.ship(self._server, TAIL_BYTES)
        outcome = entry.outcome.model_copy(update={"log_tails": logs.tails()})
        for _ in range(_ROUNDS):
            phases = outcome.phases.model_copy(update={"upload": time.monotonic() - began})
            outcome = outcome.model_copy(update={"phases": phases})
            missing = self._server.report(outcome)
            if not missing:
                return
            for sha256 in missing:
                if sha256 not in entry.uploads:
                    raise GridError(f"the server wants blob {sha256}, which is not of this outcome")
                outcome = self._put(outcome, sha256, Path(entry.uploads[sha256]))
        raise Unavailable(f"the server still lacks {len(missing)} blobs after their upload")

    def _put(self, outcome: Outcome, sha256: str, path: Path) -> Outcome:
        """Upload one content; a refusal names the file that has it.

        Gives the outcome, without that content where the server has come to take less than the order said.
        """
        try:
            self._server.put_blob(outcome.attempt, outcome.token, sha256, path)
        except (Stale, Unavailable, NotAllowed):
            raise
        except TooLarge as error:
            _log.warning(event("file_too_large", attempt=outcome.attempt, message=str(error)))
            return _without(outcome, sha256)
        except GridError as error:
            name = next(file.path for file in outcome.files if file.sha256 == sha256)
            raise GridError(f'"{name}": {error}') from error
        return outcome

    def _send_less(self, entry: Unreported, problem: str) -> bool:
        """The server refuses this outcome as it is: report that it could not be brought home, or at last give it up."""
        outcome = entry.outcome
        fault = outcome.evidence.fault
        _log.error(event("outcome_refused", attempt=outcome.attempt, task=entry.task, message=problem))
        if fault is not None and fault.kind == "upload":
            self._drop(outcome.attempt)
            return True
        evidence = outcome.evidence.model_copy(update={"fault": NodeFaultEvidence(kind="upload", message=problem)})
        bare = Outcome(
            attempt=outcome.attempt,
            token=outcome.token,
            evidence=evidence,
            usage=outcome.usage,
            phases=outcome.phases,
            limits=outcome.limits,
            image_digest=outcome.image_digest,
        )
        smaller = Unreported(outcome=bare, task=entry.task)
        self._keep(smaller)
        return self._send(smaller, LogFiles(outcome.attempt, outcome.token, {}))

    def _keep(self, entry: Unreported) -> None:
        """On the disk, or in memory when that is full: then a crash of the agent costs the outcome, not its report."""
        try:
            self._spool.put(entry)
        except OSError as error:
            self._unwritten[entry.outcome.attempt] = entry
            _log.error(event("not_spooled", attempt=entry.outcome.attempt, task=entry.task, message=str(error)))

    def _drop(self, attempt: str) -> None:
        self._unwritten.pop(attempt, None)
        self._spool.drop(attempt)
        self._done(attempt)

    def _loop(self) -> None:
        pause = RETRY_SECONDS
        while not self._closed.is_set():
            if self._round():
                pause = RETRY_SECONDS
            self._wake.wait(pause)
            self._wake.clear()
            pause = min(pause * 1.5, MAX_RETRY_SECONDS)

    def _round(self) -> bool:
        """Try every waiting outcome once; True when none is left."""
        for entry in (*list(self._unwritten.values()), *self._spool.entries()):
            attempt = entry.outcome.attempt
            with self._lock:
                if attempt in self._busy or self._closed.is_set():
                    continue
                self._busy.add(attempt)
            try:
                if not self._send(entry, _log_files(entry)):
                    return False
            finally:
                with self._lock:
                    self._busy.discard(attempt)
        return True


def _without(outcome: Outcome, sha256: str) -> Outcome:
    """The outcome that leaves the files with this content behind, and says so."""
    left = tuple(TooLargeFile(path=file.path, size=file.size) for file in outcome.files if file.sha256 == sha256)
    evidence = outcome.evidence.model_copy(update={"too_large": (*outcome.evidence.too_large, *left)})
    files = tuple(file for file in outcome.files if file.sha256 != sha256)
    return outcome.model_copy(update={"files": files, "evidence": evidence})


def _log_files(entry: Unreported) -> LogFiles:
    paths = {stream: Path(path) for stream, path in entry.logs.items()}
    return LogFiles(entry.outcome.attempt, entry.outcome.token, paths)
