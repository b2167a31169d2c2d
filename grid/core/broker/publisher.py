"""The only place that talks to the broker: wake-ups for nodes, from rows, by the dispatcher.

Nothing that a user calls publishes. A message that is lost is sent again from its row; a repeated one opens nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from amqp.exceptions import AMQPError
from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from grid.celery import CANCEL_COMMAND, RUN_TASK, hostname_of, make_app, patience_with, speaks_amqp
from grid.core.models import Attempt

logger = logging.getLogger(__name__)

# A dead broker must not hold the dispatcher up for long; the next tick tries again.
CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 5.0
_BROKER_ERRORS = (OperationalError, KombuError, AMQPError, RedisError, OSError, RuntimeError)


class Publisher:
    """Sends wake-ups over one connection; ``down`` is the reason while the broker does not answer."""

    def __init__(self, broker_url: str) -> None:
        self.app: Celery = make_app(broker_url)
        self.app.conf.broker_transport_options = _transport_options(broker_url)
        # Nobody is there to send a heartbeat between two rounds; RabbitMQ would end the connection for it.
        self.app.conf.broker_heartbeat = 0
        self._connection: Connection | None = None
        self.down = ""

    def send(self, attempts: Sequence[Attempt]) -> bool:
        """Tell each attempt's node that it waits; False when the broker did not take them: they are sent again."""
        if not attempts:
            return True
        try:
            producer = self.app.amqp.Producer(self._connected(), auto_declare=False)
            with producer, producer.batch():  # type: ignore[attr-defined] # newer than the stubs
                for attempt in attempts:
                    self._send_one(attempt, producer)
        except _BROKER_ERRORS as error:
            self._note_down(error)
            return False
        self._note_up()
        return True

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self.app.connection_for_write()
            self._connection.ensure_connection(max_retries=1, timeout=1)
        return self._connection

    def _send_one(self, attempt: Attempt, producer: Producer) -> None:
        # The arguments are ids only: Flower and the broker's memory show no user's data.
        self.app.send_task(
            RUN_TASK,
            args=[attempt.id, attempt.nonce],
            task_id=attempt.id,
            shadow=attempt.task.name,
            queue=attempt.node.queue,
            producer=producer,
            ignore_result=True,
            retry=False,
            add_to_parent=False,
        )

    def cancel(self, attempt: Attempt, reason: str) -> bool:
        """Ask the node to end an attempt at once; should this get lost, the next heartbeat's answer tells it."""
        arguments = {"attempt": attempt.id, "reason": reason}
        destination = [hostname_of(attempt.node.name)]
        try:
            self.app.control.broadcast(
                CANCEL_COMMAND, arguments, destination, connection=self._connected(), reply=False
            )
        except _BROKER_ERRORS as error:
            self._note_down(error)
            return False
        return True

    def answers(self) -> bool:
        """Try the broker; used while it is down, before anything new is placed."""
        try:
            self._connected()
        except _BROKER_ERRORS as error:
            self._note_down(error)
            return False
        self._note_up()
        return True

    def close(self) -> None:
        """Close the connection; a later call makes a new one."""
        if self._connection is not None:
            self._connection.release()
            self._connection = None

    def _note_down(self, error: Exception) -> None:
        if not self.down:
            logger.warning("the broker does not answer: %s", error, extra={"action": "broker_down"})
        self.down = str(error) or type(error).__name__
        # A connection to a broker that went away may look alive; a new one tells the truth.
        self.close()

    def _note_up(self) -> None:
        if self.down:
            logger.info("the broker answers again", extra={"action": "broker_up"})
        self.down = ""


def _transport_options(broker_url: str) -> dict[str, object]:
    """How long each step may take; RabbitMQ has to confirm, for it is silent about what is lost while it goes away."""
    bounds = patience_with(broker_url, connect_seconds=CONNECT_SECONDS, answer_seconds=ANSWER_SECONDS)
    confirmed = {"confirm_publish": True} if speaks_amqp(broker_url) else {}
    return {**bounds, **confirmed, "max_retries": 0}
