"""The one Celery app: how a message "attempt A waits for you" travels from the dispatcher to a node, and no more.

Celery carries wake-ups, never data and never results: the server's database is the record of everything.
"""

from __future__ import annotations

from celery import Celery

RUN_TASK = "nodes.run"
"""Name of the task that a node runs for each attempt; its arguments are ``[attempt_id, nonce]``."""

CANCEL_COMMAND = "cancel_attempt"
"""Name of the control command ``(attempt, reason)`` that ends a running attempt at once."""


def queue_of(node: str) -> str:
    """The queue that only the node of this name consumes."""
    return f"node.{node}"


def hostname_of(node: str) -> str:
    """The name under which Flower and control commands know the worker of a node."""
    return f"node@{node}"


def speaks_amqp(broker_url: str) -> bool:
    """True for RabbitMQ, False for Redis and Valkey."""
    return broker_url.startswith(("amqp", "pyamqp"))


def patience_with(broker_url: str, *, connect_seconds: float, answer_seconds: float) -> dict[str, object]:
    """The transport's options by which a broker that does not answer is given up; without them nobody ever does."""
    if speaks_amqp(broker_url):
        return {"connect_timeout": connect_seconds, "read_timeout": answer_seconds, "write_timeout": answer_seconds}
    return {"socket_connect_timeout": connect_seconds, "socket_timeout": answer_seconds}


def make_app(broker_url: str = "") -> Celery:
    """A Celery app with the grid's settings; ``broker_url`` may be set later, when it is known."""
    made = Celery("grid", broker=broker_url or None, set_as_current=False)
    made.conf.update(
        # A message is acknowledged as it is read: lost or repeated ones are harmless, a redelivery storm is not.
        task_acks_late=False,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=True,
        task_default_queue="grid.default",
        enable_utc=True,
        event_queue_ttl=60.0,
        event_queue_expires=60.0,
        control_queue_expires=60.0,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # True crashes a worker of threads when the broker goes away.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # True makes a thread of the pool talk on the main thread's channel after a broker came back: both read, each
        # gets parts of the other's frames, and the worker waits for ever for the rest.
        worker_enable_prefetch_count_reduction=False,
        worker_enable_remote_control=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A broker whose disk or memory is full refuses even to be read; that ends one day, and so must not the worker.
        broker_channel_error_retry=True,
    )
    return made


app = make_app()
