"""A node's Celery worker alone, as the program of a container: it says which wake-ups it takes, and runs nothing.

Run as: worker_program.py NODE, with the broker in ``CELERY_BROKER_URL``.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

from nodes.agent import Agent
from nodes.worker import Worker
from tasks.order import Welcome


class Listener(Agent):
    """What is left of an agent without a server: it hears."""

    def __init__(self) -> None:
        """Nothing of an agent's is needed."""

    def work(self, attempt: str, nonce: str) -> dict[str, object]:
        """Say that a wake-up came."""
        _say(f"took {attempt} {nonce}")
        return {}

    def cancel(self, attempt: str, reason: str) -> bool:
        """Say that a cancel came."""
        _say(f"cancels {attempt}: {reason}")
        return True

    def shut_down(self, seconds: float) -> bool:
        """Nothing runs."""
        return True

    def hurry(self) -> None:
        """Nothing runs."""


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    released = threading.Event()
    name = sys.argv[1]
    welcome = Welcome(
        node=name,
        broker_url=os.environ["CELERY_BROKER_URL"],
        queue=f"node.{name}",
        lease_seconds=30,
        heartbeat_seconds=10,
    )
    sys.exit(Worker(Listener(), 1.0, released.set).serve(welcome, slots=2))
