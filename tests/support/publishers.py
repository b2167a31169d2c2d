"""The broker's stand-in at the publisher's seam, for tests of the records alone."""

from __future__ import annotations

from collections.abc import Sequence

from grid.core.broker.publisher import Publisher
from grid.core.models import Attempt


class RecordingPublisher(Publisher):
    """Notes in ``sent`` what would be sent; while it is ``broken`` it takes nothing, as a broker that is away."""

    def __init__(self) -> None:
        self.down = ""
        self.broken = False
        self.sent: list[Attempt] = []

    def send(self, attempts: Sequence[Attempt]) -> bool:
        """Note them all, unless the broker is away."""
        if not self.answers():
            return False
        self.sent += attempts
        return True

    def cancel(self, attempt: Attempt, reason: str) -> bool:
        """Nothing to note: nodes hear of it with their heartbeat too."""
        return self.answers()

    def answers(self) -> bool:
        """Whether the broker is there."""
        self.down = "it is away" if self.broken else ""
        return not self.broken
