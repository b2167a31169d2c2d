"""The attempts that a node holds, and until when the server grants them: kept by the node's monotonic clock alone."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass

from nodes.attempt import Running
from tasks.order import AttemptPulse
from tasks.states import Phase

# A phase that lasts longer than this is told to the server before the next heartbeat is due.
LONG_PHASE_SECONDS = 1.0


@dataclass(slots=True)
class _Held:
    token: str
    renewed: float
    running: Running | None
    told: Phase

    @property
    def phase(self) -> Phase:
        return self.running.phase if self.running else Phase.UPLOADING


class Leases:
    """A thread-safe table of attempts. One that has ended and is not reported yet is held on, without a ``Running``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claimed: set[str] = set()
        self._given_up: set[str] = set()
        self._held: dict[str, _Held] = {}

    def claim(self, attempt: str) -> bool:
        """Reserve the place of ``attempt``; False when it is or was here, and the caller has nothing to do."""
        with self._lock:
            if attempt in self._claimed or attempt in self._given_up:
                return False
            self._claimed.add(attempt)
            return True

    def hold(self, attempt: str, token: str, running: Running | None, asked: float) -> None:
        """Enter an attempt; its lease counts from ``asked``, when the server was asked for it."""
        with self._lock:
            self._claimed.add(attempt)
            phase = running.phase if running else Phase.UPLOADING
            self._held[attempt] = _Held(token, asked, running, phase)

    def ended(self, attempt: str) -> None:
        """The program has ended; only the report is still to be made, so there is nothing to stop any more."""
        with self._lock:
            if attempt in self._held:
                self._held[attempt].running = None

    def knows(self, attempt: str) -> bool:
        """True from before anything of the attempt is here until it is forgotten."""
        with self._lock:
            return attempt in self._claimed

    def release(self, attempt: str) -> None:
        """Forget ``attempt``."""
        with self._lock:
            self._claimed.discard(attempt)
            self._held.pop(attempt, None)

    def give_up(self, attempt: str) -> None:
        """Forget ``attempt`` and never claim it again.

        The server may not know yet that it was begun and ended here, and would let it begin once more.
        """
        with self._lock:
            self._given_up.add(attempt)
        self.release(attempt)

    def attempts(self) -> tuple[str, ...]:
        """The ids of all attempts held."""
        with self._lock:
            return tuple(self._held)

    def running(self, attempts: Collection[str] | None = None) -> list[Running]:
        """Those (of ``attempts``) that are being worked on."""
        with self._lock:
            return [
                held.running
                for attempt, held in self._held.items()
                if held.running is not None and (attempts is None or attempt in attempts)
            ]

    def pulses(self) -> tuple[AttemptPulse, ...]:
        """What to say of each attempt in a heartbeat."""
        with self._lock:
            return tuple(
                AttemptPulse(attempt=attempt, token=held.token, phase=held.phase)
                for attempt, held in self._held.items()
            )

    def renew(self, pulses: Collection[AttemptPulse], sent: float) -> None:
        """The server has answered a heartbeat that was sent at ``sent``."""
        with self._lock:
            for pulse in pulses:
                if held := self._held.get(pulse.attempt):
                    held.renewed, held.told = sent, pulse.phase

    def renew_all(self, sent: float, without: Collection[str]) -> None:
        """The server has answered a hello that named all attempts, and was sent at ``sent``."""
        with self._lock:
            for attempt, held in self._held.items():
                if attempt not in without:
                    held.renewed = sent

    def lapsed(self, now: float, lease_seconds: float) -> list[Running]:
        """Those being worked on whose lease is over, as far as this node can know."""
        with self._lock:
            return [
                held.running
                for held in self._held.values()
                if held.running is not None and now - held.renewed > lease_seconds
            ]

    def untold(self, now: float) -> bool:
        """True when some attempt has been in a phase for long of which the server does not know."""
        with self._lock:
            return any(
                held.running is not None
                and held.running.phase is not held.told
                and now - held.running.since > LONG_PHASE_SECONDS
                for held in self._held.values()
            )
