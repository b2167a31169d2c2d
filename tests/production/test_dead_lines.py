"""A line between a node and the broker dies, and neither is told: orders come all the same, soon messages too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.support.brokers import RabbitServer, RedisServer
from tests.support.grid_fixtures import pytest_runtest_makereport
from tests.support.grids import RunningGrid
from tests.support.images import ensure_test_image
from tests.support.node_api import eventually
from tests.support.proxy import Proxy
from tests.support.story import PATIENCE_SECONDS, ended_once, nothing_is_left

__all__ = ["pytest_runtest_makereport"]

pytestmark = [pytest.mark.needs("docker", "busybox", "root"), pytest.mark.timeout(300)]

KINDS = [
    pytest.param(RedisServer, id="redis", marks=pytest.mark.needs("redis")),
    pytest.param(RabbitServer, id="rabbitmq", marks=pytest.mark.needs("rabbitmq")),
]
LEASE_SECONDS = 6


@dataclass(frozen=True)
class Site:
    """A grid whose nodes reach its broker over a ``line``."""

    grid: RunningGrid
    line: Proxy

    def log(self, action: str) -> int:
        """How often the node has written of an action."""
        return (self.grid.directory / "logs" / "node.log").read_text().count(f"action={action}")


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ensure_test_image()
    folder = tmp_path_factory.mktemp("site")
    with request.param(folder / "broker") as broker, Proxy(broker.port) as line:
        over_the_line = broker.url.replace(f":{broker.port}/", f":{line.port}/")
        options = {"broker_url": broker.url, "node_broker_url": over_the_line, "lease_seconds": LEASE_SECONDS}
        with RunningGrid(folder, **options) as grid:
            yield Site(grid, line)


def test_a_line_to_the_broker_that_died_silently_costs_a_heartbeat_and_is_left_for_a_new_one(site: Site) -> None:
    grid, line = site.grid, site.line
    one_more(site)
    line.die_silently()
    lines = line.connections
    one_more(site)
    assert site.log("unread") > 0
    # What waits for the node tells it that its line is dead.
    eventually(partial(is_noticed, site), PATIENCE_SECONDS)
    eventually(lambda: line.connections > lines, PATIENCE_SECONDS)
    eventually(partial(comes_by_message, site), PATIENCE_SECONDS)
    nothing_is_left(grid)


def is_noticed(site: Site) -> bool:
    """Whether by the end of one more task the node has begun to connect anew."""
    one_more(site)
    return site.log("connect_anew") > 0


def comes_by_message(site: Site) -> bool:
    """Whether one more task came to its node without the heartbeat's help."""
    before = site.log("unread")
    one_more(site)
    return site.log("unread") == before


def one_more(site: Site) -> None:
    """One more task runs, once, and ends well."""
    ended_once(site.grid.submit("true"), runs=1)
