"""The Celery side of a node: a worker of threads on the node's own queue, and the command that cancels at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from celery.events.dispatcher import EventDispatcher
from celery.worker import WorkController
from celery.worker import state as worker_state
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.control import Panel, control_command

from grid.celery import CANCEL_COMMAND, RUN_TASK, hostname_of, make_app, patience_with
from nodes.agent import Agent
from nodes.journal import event
from tasks.order import Welcome

# More threads than slots: a thread that still reports one attempt must not hold up the next.
SPARE_THREADS = 2
EVENT_HEARTBEAT_SECONDS = 5
# The longest wait between two tries to reach a broker that is away.
RECONNECT_SECONDS = 2
# Of Celery's own commands those that only ask, for Flower. Whoever may speak on the broker could stop the worker, take
# its queue away or fill its memory by the others; the server uses none of them.
_HARMLESS = frozenset(
    [
        "ping",
        "clock",
        "conf",
        "stats",
        "report",
        "active",
        "active_queues",
        "reserved",
        "scheduled",
        "registered",
        "revoked",
        "query_task",
    ]
)
# A broker that does not answer for so long is gone. Without this bound the worker would wait for ever for one that went
# without a word, even to say goodbye to it.
ANSWER_SECONDS = 5.0
# Nothing was read for so long although there is something to read: the line to the broker is taken for dead.
DEAF_SECONDS = 10.0
# Celery gave up; whoever keeps this process running should start it again.
_GAVE_UP = 1
# How long Celery's own goodbye (to the broker, to Flower) may take when nothing runs any more.
_GOODBYE_SECONDS = 3.0

_log = logging.getLogger(__name__)


class Dispatcher(EventDispatcher):
    """Sends the events that Flower shows. Celery's own forgets what another thread says while it is sending."""

    # The stubs leave these out.
    mutex: threading.Lock
    producer: object
    _group_buffer: dict[str, list[object]]
    _publish: Callable[[object, object, str], None]

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what has gathered."""
        super().flush(errors=errors, groups=False)
        if not groups:
            return
        with self.mutex:
            for group, events in self._group_buffer.items():
                sent = events[:]
                if sent:
                    self._publish(sent, self.producer, f"{group}.multi")
                del events[: len(sent)]


class Consumer(CeleryConsumer):
    """Goes on within seconds when the broker is back. Celery's own waits longer each time, up to half a minute."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however long that takes."""
        # The one place where Celery leaves the waits to its transport's defaults.
        conn.ensure_connection = partial(conn.ensure_connection, interval_max=RECONNECT_SECONDS)
        return super().ensure_connected(conn)


class Worker:
    """Consumes the node's queue in the main thread until the process is asked to end; then ``release`` is called."""

    def __init__(self, agent: Agent, shutdown_seconds: float, release: Callable[[], None]) -> None:
        self._agent = agent
        self._release = release
        self._released = threading.Event()
        self._shutdown_seconds = shutdown_seconds
        self._leaving = threading.Lock()
        self._status = 0
        self._consumer: CeleryConsumer | None = None
        self._read_at = time.monotonic()

    def serve(self, welcome: Welcome, slots: int) -> int:
        """Work until SIGTERM, SIGINT or ``leave``; return the exit status. Outages of the broker are waited out."""
        app = make_app(welcome.broker_url)
        app.conf.broker_transport_options = _transport_options(welcome)
        app.set_default()
        app.events.dispatcher_cls = Dispatcher  # type: ignore[assignment]  # a class or its name
        app.task(name=RUN_TASK)(_run_with(self._work))
        for name in Panel.data.keys() - _HARMLESS:
            del Panel.data[name]
        control_command(name=CANCEL_COMMAND, args=[("attempt", str), ("reason", str)])(_cancel_with(self._agent))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        controller = WorkController(
            app=app,
            hostname=hostname_of(welcome.node),
            queues=[welcome.queue],
            pool="threads",
            concurrency=slots + SPARE_THREADS,
            loglevel=logging.INFO,
            without_gossip=True,
            without_mingle=True,
            heartbeat_interval=EVENT_HEARTBEAT_SECONDS,
            consumer_cls=Consumer,
        )
        self._consumer = controller.consumer  # type: ignore[attr-defined]  # the stubs leave it out
        _log.info(event("serving", queue=welcome.queue, slots=slots))
        controller.start()
        # Nobody reads the queue any more: not to end now would be to look ready for as long as something runs here.
        self.leave(int(controller.exitcode or _GAVE_UP))
        # Celery has nothing more to do, but what the agent has begun to clean up must not be cut short.
        self._released.wait()
        return self._status

    def connect_anew(self) -> None:
        """Leave the connection to the broker for a new one, unless something was read lately. From any thread.

        A line can die without a word to either side, and Celery waits for ever for what is to come over it.
        """
        if self._consumer is None or time.monotonic() - self._read_at < DEAF_SECONDS:
            return
        self._read_at = time.monotonic()
        _log.warning(event("connect_anew", message=f"nothing was read from the broker for {DEAF_SECONDS:g} s"))
        self._consumer.call_soon(_give_up)

    def _work(self, attempt: str, nonce: str) -> dict[str, object]:
        self._read_at = time.monotonic()
        return self._agent.work(attempt, nonce)

    def leave(self, status: int = 0) -> None:
        """Take up nothing more and end; what still runs after a while is left to the next start. From any thread."""
        if not self._leaving.acquire(blocking=False):
            return
        self._status = status
        worker_state.should_stop = status  # type: ignore[assignment]  # the stubs know only its first value
        threading.Thread(target=self._end, name="leaving", daemon=True).start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        _log.info(event("asked_to_end", signal=signal.Signals(number).name))
        if self._leaving.locked():
            # From a thread: this one may hold the very lock that the agent takes.
            threading.Thread(target=self._agent.hurry, name="hurry", daemon=True).start()
        self.leave()

    def _end(self) -> None:
        """See to it that the process ends: Celery's threads wait for what runs for ever, and for a lost broker too."""
        idle = self._agent.shut_down(self._shutdown_seconds)
        self._release()
        self._released.set()
        if idle:
            time.sleep(_GOODBYE_SECONDS)
        logging.shutdown()
        os._exit(self._status)


def _transport_options(welcome: Welcome) -> dict[str, object]:
    """How long the broker may take to answer; on Redis, also where what is read and not acknowledged yet is noted."""
    bounds = patience_with(welcome.broker_url, connect_seconds=ANSWER_SECONDS, answer_seconds=ANSWER_SECONDS)
    if not welcome.broker_url.startswith("redis"):
        return bounds
    # Beside the node's own queue, which is all that it may touch.
    keys = {f"{name}_key": f"{welcome.queue}:{name}" for name in ("unacked", "unacked_index", "unacked_mutex")}
    return {**bounds, **keys}


def _give_up() -> None:
    """In Celery's own thread, where it ends the connection as any fault of it does."""
    raise ConnectionResetError("messages do not come through")


def _run_with(work: Callable[[str, str], dict[str, object]]) -> Callable[..., dict[str, object]]:
    def run(*said: object, **more: object) -> dict[str, object]:
        """Run an attempt to its end. What its program did is a result; only a fault of the grid fails this task."""
        match said:
            case (str() as attempt, str() as nonce) if not more:
                return work(attempt, nonce)
        # Whoever reaches the broker can write messages.
        _log.warning(event("ignored", message="a message with something that is not an attempt and its nonce"))
        return {"ignored": "not an attempt and its nonce"}

    return run


def _cancel_with(agent: Agent) -> Callable[..., dict[str, object]]:
    def cancel_attempt(state: object, attempt: str, reason: str = "") -> dict[str, object]:
        """End a running attempt."""
        return {"ok": agent.cancel(attempt, reason)}

    return cancel_attempt
