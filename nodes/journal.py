"""What a node writes about itself: one line for each event on stderr, ``key=value`` throughout, never a secret."""

from __future__ import annotations

import logging
import sys
import time

_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s"


def set_up(level: int = logging.INFO) -> None:
    """Send this process's log to stderr, times in UTC."""
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # One line for each request and each received message would drown our own.
    for chatty in ("httpx", "httpcore", "celery.worker.strategy", "celery.app.trace", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def event(action: str, *, attempt: str = "", task: str = "", message: str = "", **facts: object) -> str:
    """The text of one event: ``action=taken attempt=... task=... seconds=0.2 message="..."``."""
    named = {"action": action, "attempt": attempt, "task": task, **facts, "message": message}
    return " ".join(f"{key}={_shown(value)}" for key, value in named.items() if value != "")


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = " ".join(str(value).split())
    return '"' + text.replace('"', "'") + '"' if " " in text or not text else text
