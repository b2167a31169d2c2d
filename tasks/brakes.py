"""How long whoever failed to say who they are has to wait: a pause that grows with their failures."""

from __future__ import annotations

from dataclasses import dataclass

FORGET_SECONDS = 86_400.0
"""Failures count together until there was none for so long."""


@dataclass(frozen=True, slots=True)
class Brake:
    """After ``free`` failures every further one costs a pause, each twice as long as the one before.

    The pauses begin with ``first_seconds`` and grow up to ``longest_seconds``.
    """

    free: int
    first_seconds: float
    longest_seconds: float

    def pause_seconds(self, failures: int) -> float:
        """The pause after so many failures; 0 for none."""
        over = failures - self.free
        if over < 0:
            return 0.0
        # Two to the 30th is longer than any pause; nobody's failures make the number grow without end.
        return min(self.longest_seconds, self.first_seconds * 2.0 ** min(over, 30))


PAIR = Brake(free=5, first_seconds=60.0, longest_seconds=3600.0)
"""One name from one address: somebody who guesses, or who forgot."""

ACCOUNT = Brake(free=50, first_seconds=10.0, longest_seconds=300.0)
"""One name from anywhere. It stays short, for it also keeps the account's owner out."""

ADDRESS = Brake(free=50, first_seconds=60.0, longest_seconds=3600.0)
"""All names from one address: one password tried on everybody."""

TOKENS = Brake(free=100, first_seconds=60.0, longest_seconds=3600.0)
"""Tokens that nobody has, from one address."""
