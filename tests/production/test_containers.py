"""Broker and node worker in containers of their own: what the dispatcher sends arrives, whichever of them was killed.

The containers are pytest-celery's; its images are replaced by the stack's, so that no registry is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from pytest_celery import (
    CeleryBrokerCluster,
    CeleryTestBroker,
    CeleryTestWorker,
    CeleryWorkerContainer,
    RedisContainer,
    RedisTestBroker,
)
from pytest_docker_tools import container, fxtr

from grid.celery import hostname_of, make_app
from grid.core.broker.publisher import Publisher
from grid.core.ids import new_id
from grid.core.models import Attempt, Node, Task
from tests.support import worker_program
from tests.support.broker import free_port
from tests.support.node_api import eventually
from tests.support.stack import build_images

pytestmark = [
    pytest.mark.needs("docker", "root", "mmdebstrap"),
    # The first test makes the images on a fresh machine.
    pytest.mark.timeout(600),
]

NODE = "alpha"
WAIT_SECONDS = 90.0


class Broker(RedisContainer):  # type: ignore[misc]  # not typed
    """Redis that keeps its messages, on a port of the machine that stays the same when it is started again."""

    port_here = 0
    image_name = ""

    @classmethod
    def command(cls, *args: str, **_: object) -> list[str]:
        """As in the stack, but without a password: pytest-celery knows none."""
        return ["redis-server", "--protected-mode", "no", "--appendonly", "yes", "--save", ""]

    @classmethod
    def image(cls) -> str:
        """The stack's."""
        return cls.image_name

    @classmethod
    def ports(cls) -> dict[str, object]:
        """On loopback."""
        return {"6379/tcp": ("127.0.0.1", cls.port_here)}


class NodeContainer(CeleryWorkerContainer):  # type: ignore[misc]  # not typed
    """The grid's image with the worker of a node."""

    @classmethod
    def command(cls, *args: str, **_: object) -> list[str]:
        """The program that is mounted into it."""
        return ["/program.py", NODE]

    @property
    def ready_prompt(self) -> str:
        """What the worker of a node writes; the word of Celery's own command is not among it."""
        return "action=serving"

    @classmethod
    def initial_env(cls, celery_worker_cluster_config: dict[str, Any], initial: object = None) -> dict[str, str]:
        """The broker as containers see it; the rest is in the image, where pytest-celery's own would cover it."""
        return {"CELERY_BROKER_URL": celery_worker_cluster_config["celery_broker_cluster_config"]["urls"][0]}


@pytest.fixture(scope="module")
def stack_images() -> SimpleNamespace:
    """The names of the images, as fields that pytest-docker-tools can read."""
    return SimpleNamespace(**build_images())


@pytest.fixture(autouse=True)
def published_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-docker-tools takes a machine with a file ``/.dockerenv`` for a container beside those it has started."""
    monkeypatch.setattr("pytest_docker_tools.wrappers.container.tests_inside_container", lambda: False)


@pytest.fixture
def default_redis_broker_cls(stack_images: SimpleNamespace) -> type[Broker]:
    """Our image instead of that of a registry."""
    Broker.image_name, Broker.port_here = stack_images.redis, free_port()
    return Broker


@pytest.fixture
def celery_broker_cluster(celery_redis_broker: RedisTestBroker) -> Iterator[CeleryBrokerCluster]:
    """One Redis; no RabbitMQ."""
    cluster = CeleryBrokerCluster(celery_redis_broker)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster() -> None:
    """Results do not travel through Celery."""


@pytest.fixture
def default_worker_container_cls() -> type[NodeContainer]:
    """The command that goes with our image."""
    return NodeContainer


default_worker_container = container(
    image="{stack_images.grid}",
    entrypoint=["python3"],
    command=fxtr("default_worker_command"),
    environment=fxtr("default_worker_env"),
    network="{default_pytest_celery_network.name}",
    volumes={str(Path(worker_program.__file__)): {"bind": "/program.py", "mode": "ro"}},
    wrapper_class=NodeContainer,
    timeout=60,
)


@pytest.fixture
def broker(celery_redis_broker: RedisTestBroker) -> CeleryTestBroker:
    """The broker's container."""
    return celery_redis_broker


@pytest.fixture
def default_worker_app(broker: CeleryTestBroker) -> Iterator[Celery]:
    """The grid's Celery app on this side, and not one of pytest-celery's."""
    app = make_app(broker.config()["host_url"])
    yield app
    app.close()


@pytest.fixture
def worker(celery_setup_worker: CeleryTestWorker) -> CeleryTestWorker:
    """The node worker's container, once it answers."""
    eventually(lambda: pings(celery_setup_worker), WAIT_SECONDS)
    return celery_setup_worker


@pytest.fixture
def publisher(broker: CeleryTestBroker) -> Iterator[Publisher]:
    """The dispatcher's own."""
    made = Publisher(broker.config()["host_url"])
    yield made
    made.close()
    made.app.close()


def test_a_wake_up_and_a_cancel_arrive(worker: CeleryTestWorker, publisher: Publisher) -> None:
    """With two ids each, and no data."""
    attempt = new_attempt()

    assert publisher.send([attempt])
    eventually(lambda: taken(worker, attempt) == 1, WAIT_SECONDS)
    assert publisher.cancel(attempt, "wrong input")
    eventually(lambda: f"cancels {attempt.id}: wrong input" in worker.logs(), WAIT_SECONDS)


def test_what_is_sent_while_worker_and_broker_are_killed_arrives_once(
    worker: CeleryTestWorker, broker: CeleryTestBroker, publisher: Publisher
) -> None:
    """A message that the broker took outlives kill -9 of both containers."""
    early, late = new_attempt(), new_attempt()
    worker.kill()
    assert publisher.send([early])

    broker.kill()
    eventually(lambda: not publisher.send([late]), WAIT_SECONDS)
    broker.restart()
    worker.restart()

    eventually(lambda: taken(worker, early) == 1, WAIT_SECONDS)
    eventually(lambda: publisher.send([late]), WAIT_SECONDS)
    eventually(lambda: taken(worker, late) >= 1, WAIT_SECONDS)
    eventually(lambda: pings(worker), WAIT_SECONDS)
    assert taken(worker, early) == 1


def test_a_worker_outlives_its_broker(worker: CeleryTestWorker, broker: CeleryTestBroker, publisher: Publisher) -> None:
    """It connects again by itself: the process is the same, and takes the next message."""
    process = pid_of(worker)
    broker.kill()
    eventually(lambda: not publisher.answers(), WAIT_SECONDS)
    broker.restart()
    attempt = new_attempt()

    eventually(lambda: publisher.send([attempt]), WAIT_SECONDS)

    eventually(lambda: taken(worker, attempt) >= 1, WAIT_SECONDS)
    assert pid_of(worker) == process


def new_attempt() -> Attempt:
    """An attempt that no database has: the publisher reads its ids, its task's name and its node's queue."""
    node = Node(name=NODE)
    return Attempt(id=new_id(), nonce=new_id(), node=node, task=Task(name="made up"))


def taken(worker: CeleryTestWorker, attempt: Attempt) -> int:
    """How often the worker has said that it took the attempt, with its nonce."""
    return len(re.findall(rf"^took {attempt.id} {attempt.nonce}$", worker.logs(), re.MULTILINE))


def pings(worker: CeleryTestWorker) -> bool:
    """Whether the worker answers to its name."""
    # A new connection: one in the app's pool may be from before the broker's end.
    with worker.app.connection_for_write() as connection:
        answers = worker.app.control.ping(destination=[hostname_of(NODE)], timeout=1.0, connection=connection)
    return bool(answers == [{hostname_of(NODE): {"ok": "pong"}}])


def pid_of(worker: CeleryTestWorker) -> int:
    """The worker's process on this machine; 0 while it does not run."""
    worker.container.reload()
    return int(worker.container.attrs["State"]["Pid"])
