"""Brokers that an operator brings along, as Debian has them: redis-server and rabbitmq-server, with a password."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.broker import free_port

START_SECONDS = 90.0
PASSWORD = "carrot-4711"
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class OwnBroker:
    """A broker on private ports of the loopback interface that keeps all in ``folder``; to be killed at will."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Its address, with the password."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start it, again after a ``kill``, and wait until it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._launch()
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if time.monotonic() > deadline or self._processes[-1].poll() is not None:
                log = (self.folder / "log").read_text(errors="replace")
                self.kill()
                raise RuntimeError(f"the broker did not start:\n{log[-4000:]}")
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """kill -9, with all that it has started."""
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def forget(self) -> None:
        """Lose all that it had; only while it is down."""
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _launch(self) -> None:
        raise NotImplementedError

    def _ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _spawn(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        with (self.folder / "log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, **(environment or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    start_new_session=True,
                )
            )


class RedisServer(OwnBroker):
    """Debian's Redis. Database 3, so that no number is taken for granted."""

    @property
    def url(self) -> str:
        """Its address, with the password."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/3"

    def _launch(self) -> None:
        options = {"port": self.port, "bind": "127.0.0.1", "requirepass": PASSWORD, "dir": self.folder}
        lines = [f"{name} {value}" for name, value in options.items()]
        config = self.folder / "redis.conf"
        config.write_text("\n".join([*lines, "appendonly yes", 'save ""', ""]))
        self._spawn(["redis-server", str(config)])


class RabbitServer(OwnBroker):
    """Debian's RabbitMQ, under a name of its own, with a port mapper of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._mapper_port = free_port()
        self._talk_port = free_port()

    @property
    def url(self) -> str:
        """Its address, with the password."""
        return f"amqp://grid:{PASSWORD}@127.0.0.1:{self.port}//"

    def _launch(self) -> None:
        config = self.folder / "rabbitmq.conf"
        config.write_text(f"default_user = grid\ndefault_pass = {PASSWORD}\n")
        (self.folder / "plugins").write_text("[].\n")
        # As a child of ours, or RabbitMQ would leave one behind for ever.
        self._spawn(["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"])
        self._spawn(
            [str(RABBITMQ)],
            {
                "HOME": str(self.folder),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
                "ERL_EPMD_PORT": str(self._mapper_port),
                "RABBITMQ_NODENAME": f"grid{self.port}@localhost",
                "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
                "RABBITMQ_NODE_PORT": str(self.port),
                "RABBITMQ_DIST_PORT": str(self._talk_port),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
                "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
                "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
                "RABBITMQ_CONFIG_FILE": str(config),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            },
        )
