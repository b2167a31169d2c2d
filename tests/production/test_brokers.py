"""A whole grid over each kind of broker: its own Valkey, Debian's Redis and Debian's RabbitMQ by URL.

On those of the Redis protocol each node has a user of its own, which opens nothing of other nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from redis import Redis
from redis.exceptions import ConnectionError, NoPermissionError, ResponseError

from grid.celery import hostname_of
from nodes.server import Server
from tasks.order import Capacity, Facts, Hello
from tasks.verdicts import Verdict
from tasks.views import Level
from tests.support.broker import broker_of
from tests.support.brokers import OwnBroker, RabbitServer, RedisServer
from tests.support.commands import WAITS
from tests.support.grid_fixtures import pytest_runtest_makereport
from tests.support.grids import RunningGrid
from tests.support.images import ensure_test_image
from tests.support.node_api import eventually
from tests.support.story import may_go_on

__all__ = ["pytest_runtest_makereport"]

pytestmark = [pytest.mark.needs("docker", "busybox", "root"), pytest.mark.timeout(300)]

KINDS = [
    pytest.param(None, id="built-in"),
    pytest.param(RedisServer, id="redis", marks=pytest.mark.needs("redis")),
    pytest.param(RabbitServer, id="rabbitmq", marks=pytest.mark.needs("rabbitmq")),
]
# With such a lease a heartbeat comes every hundred seconds: what is quicker came through the broker.
LEASE_SECONDS = 300
FACTS = Facts(capacity=Capacity(cpus=1, memory=2**30, slots=1))
FORBIDDEN = (
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("CONFIG", "GET", "requirepass"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "me", "on", "nopass", "+@all"),
    ("CLIENT", "LIST"),
    ("MONITOR",),
    ("SHUTDOWN",),
    ("REPLICAOF", "NO", "ONE"),
    ("SUBSCRIBE", "anything"),
)
SOON_SECONDS = 60.0


class Site:
    """A grid, and the broker that was brought along for it, if any."""

    def __init__(self, grid: RunningGrid, broker: OwnBroker | None) -> None:
        self.grid = grid
        self.broker = broker

    @property
    def speaks_redis(self) -> bool:
        """Whether the broker is one of the Redis protocol."""
        return not isinstance(self.broker, RabbitServer)

    def admin(self) -> Redis:
        """A connection to the broker with the server's own rights, to be closed."""
        return broker_of(self.grid.directory) if self.broker is None else Redis.from_url(self.broker.url)


@pytest.fixture(scope="module", params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ensure_test_image()
    folder = tmp_path_factory.mktemp("site")
    options: dict[str, object] = {"lease_seconds": LEASE_SECONDS, "flower": True, "secret_key": uuid4().hex * 2}
    if request.param is None:
        with RunningGrid(folder, **options) as grid:  # type: ignore[arg-type]  # of all kinds
            yield Site(grid, None)
        return
    with request.param(folder / "broker") as broker, RunningGrid(folder, broker_url=broker.url, **options) as grid:  # type: ignore[arg-type]
        yield Site(grid, broker)


def test_a_grid_with_a_broker_of_its_own_starts_none(site: Site) -> None:
    assert (site.grid.find("broker") is None) == (site.broker is not None)


def test_tasks_run(site: Site) -> None:
    tasks = [site.grid.submit("sh", "-c", f"echo {number}") for number in range(8)]
    assert {task.wait(SOON_SECONDS).verdict for task in tasks} == {Verdict.SUCCEEDED}


def test_a_running_task_is_ended_at_once_by_a_control_command(site: Site) -> None:
    task = site.grid.submit(*WAITS, limits={"time": "300s"})
    eventually(lambda: "ready" in "".join(task.logs()), SOON_SECONDS)
    task.cancel("not needed")
    assert task.wait(SOON_SECONDS).verdict is Verdict.CANCELLED


def test_the_node_is_a_worker_in_flower(site: Site) -> None:
    facts = site.grid.facts
    password = Path(facts["flower_password_file"]).read_text().strip()
    name = hostname_of(facts["node"])

    def shown() -> bool:
        try:
            answer = web.get("api/workers", params={"status": "true"})
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and answer.json().get(name) is True

    with httpx.Client(base_url=facts["flower_url"], auth=(facts["flower_user"], password), timeout=10) as web:
        eventually(shown, SOON_SECONDS)


def test_a_broker_that_is_killed_and_comes_back_goes_on_with_its_node(site: Site) -> None:
    running = site.grid.submit(*WAITS, limits={"time": "300s"}, name="runs on")
    eventually(lambda: "ready" in "".join(running.logs()), SOON_SECONDS)
    # Time and again: what threads do to each other on a new connection shows in some of its starts only.
    for _ in range(1 if site.speaks_redis else 3):
        if site.broker is None:
            was = site.grid.kill("broker")
            site.grid.restarted("broker", was)
            waiting = site.grid.submit("true")
        else:
            site.broker.kill()
            waiting = site.grid.submit("true")
            site.broker.start()
        assert waiting.wait(2 * SOON_SECONDS).verdict is Verdict.SUCCEEDED
    may_go_on(site.grid.directory / "node", running)
    assert running.wait(SOON_SECONDS).verdict is Verdict.SUCCEEDED


def test_a_broker_that_forgot_everything_is_told_again(site: Site) -> None:
    if site.broker is None:
        pytest.skip("the built-in broker is started again by its supervisor, with all that it has written")
    site.broker.kill()
    site.broker.forget()
    waiting = site.grid.submit("true")
    site.broker.start()
    assert waiting.wait(2 * SOON_SECONDS).verdict is Verdict.SUCCEEDED


def test_doctor_says_whether_nodes_share_the_address_of_the_broker(site: Site) -> None:
    found = {one.name: one for one in site.grid.client.doctor().findings}
    assert found["broker"].level is Level.PASS
    assert found["broker-users"].level is (Level.PASS if site.speaks_redis else Level.WARN)
    assert "broker-password" not in found


# ------------------------------------------------------------------------------------------------------- users of nodes
def joined(site: Site, name: str) -> str:
    """The address of the broker that a new node of this name is told, with a token that has its name."""
    token = site.grid.client.add_node(name, renew=True).token
    with closing(Server(site.grid.server, token)) as server:
        welcome = server.hello(Hello(session=uuid4().hex, facts=FACTS))
    return welcome.broker_url


def refused(broker: Redis, *command: object) -> bool:
    """Whether the broker forbids the command."""
    execute: Callable[..., object] = broker.execute_command
    try:
        execute(*command)
    except NoPermissionError:
        return True
    return False


def works(url: str) -> bool:
    """Whether the broker lets somebody in with this address."""
    with closing(Redis.from_url(url)) as broker:
        try:
            broker.ping()
        except ConnectionError:  # a refused password is one, and so is to be cut off in the middle of it
            return False
    return True


def closed(url: str) -> bool:
    """Whether the broker refuses this address."""
    return not works(url)


@pytest.fixture
def users(site: Site) -> Site:
    if not site.speaks_redis:
        pytest.skip("RabbitMQ has no such users")
    return site


def test_nodes_of_a_rabbitmq_share_its_address(site: Site) -> None:
    if site.speaks_redis:
        pytest.skip("here each node has a user of its own")
    assert site.broker is not None
    assert joined(site, "shares") == site.broker.url


def test_a_nodes_user_opens_its_own_queue_and_nothing_of_others(users: Site) -> None:
    url = joined(users, "ann")
    joined(users, "anna")
    with closing(users.admin()) as admin, closing(Redis.from_url(url)) as node:
        admin.lpush("node.anna", "for anna")
        admin.lpush("node.ann", "for ann")
        assert node.rpop("node.ann") == b"for ann"
        for queue in ("node.anna", "node.anna\x06\x163", "node.anna:unacked", "unacked", "grid.default", "anything"):
            for command in (("RPOP", queue), ("LRANGE", queue, 0, -1), ("LPUSH", queue, "x"), ("DEL", queue)):
                assert refused(node, *command), command
        assert admin.rpop("node.anna") == b"for anna"


def test_a_nodes_user_may_neither_look_around_nor_do_harm(users: Site) -> None:
    with closing(Redis.from_url(joined(users, "eve"))) as node:
        for command in FORBIDDEN:
            assert refused(node, *command), command


def test_a_script_of_a_nodes_user_reads_no_other_queue(users: Site) -> None:
    with closing(users.admin()) as admin, closing(Redis.from_url(joined(users, "eve"))) as node:
        admin.lpush("node.other", "not for eve")
        try:
            with pytest.raises(ResponseError, match=r"(?i)permission|NOPERM|can't access"):
                node.eval("return redis.call('LRANGE', 'node.other', 0, -1)", 0)
        finally:
            admin.delete("node.other")


def test_a_revoked_token_and_a_removed_node_are_forgotten_and_cut_off(users: Site) -> None:
    for end in ("revoke", "remove"):
        url = joined(users, f"gone-{end}")
        with closing(Redis.from_url(url, retry=None)) as node:
            node.ping()
            if end == "revoke":
                [token] = [one for one in users.grid.client.tokens() if one.node == f"gone-{end}"]
                users.grid.client.revoke_token(token.id)
            else:
                users.grid.client.remove_node(f"gone-{end}")
            eventually(partial(closed, url), SOON_SECONDS)
            with closing(users.admin()) as admin:
                assert not [one for one in admin.client_list() if one["user"].endswith(f"gone-{end}")]


def test_a_renewed_token_brings_another_password(users: Site) -> None:
    first = joined(users, "renewed")
    second = joined(users, "renewed")
    eventually(partial(closed, first), SOON_SECONDS)
    assert second != first
    eventually(partial(works, second), SOON_SECONDS)


def test_users_that_the_broker_has_lost_are_made_again(users: Site) -> None:
    url = joined(users, "back")
    with closing(users.admin()) as admin:
        [user] = [name for name in map(_text, admin.acl_users()) if name.endswith("-back")]
        assert admin.acl_deluser(user) == 1
    eventually(lambda: works(url), SOON_SECONDS)


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
