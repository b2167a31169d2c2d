"""``rundispatcher``: the daemon that places tasks and enforces deadlines. Run as many as you like; one acts.

Beside it, in threads of their own, each of them sends the webhooks and e-mails that are due.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError, close_old_connections, connection
from django.utils import timezone

from grid.core.broker.logins import broker_users
from grid.core.broker.publisher import Publisher
from grid.core.conf import GridSettings, conf
from grid.core.delivery.mails import Mailer
from grid.core.delivery.webhooks import Courier
from grid.core.dispatcher import Dispatcher
from grid.core.reconciler import Reconciler
from grid.core.upkeep.clockwatch import ClockWatch
from grid.core.wake import Listener
from tasks.errors import Stale

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    """Place tasks on nodes until asked to stop."""

    help = "Place queued tasks on nodes and enforce all deadlines, until SIGTERM or Ctrl-C."
    requires_system_checks = ()
    """Pages and API are none of its business, and take longer to load than all else that it needs."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to listen for wake-ups."""
        parser.add_argument("--wake-host", default="127.0.0.1", help="address on which wake-ups (UDP) are heard")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal comes."""
        daemon = Daemon(conf(), Listener(options["wake_host"]))
        signal.signal(signal.SIGTERM, daemon.stop)
        signal.signal(signal.SIGINT, daemon.stop)
        daemon.run()


class Daemon:
    """The loop: wait to be woken or for the tick, then reconcile (once a tick) and dispatch."""

    def __init__(self, settings: GridSettings, listener: Listener) -> None:
        self._settings = settings
        self._listener = listener
        publisher = Publisher(settings.broker_url)
        holder = f"{socket.gethostname()}:{os.getpid()}"
        self._dispatcher = Dispatcher(settings, publisher, holder, listener.address)
        self._reconciler = Reconciler(settings, self._dispatcher, publisher)
        self._users = broker_users(settings)
        self._clock = ClockWatch(settings.lease_seconds / 2)
        self._courier = Courier(settings)
        self._mailer = Mailer(settings)
        self._stopping = False
        self._ticked = float("-inf")

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Leave the loop after the current round."""
        self._stopping = True

    def run(self) -> None:
        """Run until ``stop``; a database that is away for a while is waited for."""
        logger.info("dispatcher listens at %s", self._listener.address, extra={"action": "start"})
        self._courier.start()
        self._mailer.start()
        while not self._stopping:
            try:
                self._round()
            except OperationalError as error:
                logger.warning("the database does not answer: %s", error, extra={"action": "database_down"})
                connection.close()
            except Stale as error:
                logger.warning("%s", error, extra={"action": "fenced"})
            self._listener.wait(self._settings.tick_seconds)
        self._courier.stop()
        self._mailer.stop()
        self._users.close()
        self._dispatcher.step_down()
        self._listener.close()

    def _round(self) -> None:
        # What is done once a tick is not done at every wake-up: a thousand submits a second must not cost it.
        ticks = time.monotonic() - self._ticked >= self._settings.tick_seconds * 0.9
        if ticks:
            self._ticked = time.monotonic()
            close_old_connections()
        now = timezone.now()
        jump = self._clock.jump(now, time.monotonic())
        if not self._dispatcher.lead(now):
            return
        if jump:
            self._reconciler.clock_was_set(jump, now)
        if ticks:
            self._reconciler.tick(now)
            self._users.tick(now)
        self._reconciler.cancels(now)
        self._dispatcher.dispatch(timezone.now)
