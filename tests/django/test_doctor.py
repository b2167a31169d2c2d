"""The server's look at itself, and what it tells load balancers: the queue, the broker's settings, the store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from django.test import Client
from django.utils import timezone

from grid.core import fleet, locks, nodes
from grid.core.broker import condition
from grid.core.conf import conf
from grid.core.contents import storecheck
from grid.core.contents.store import Store, get_store
from grid.core.contents.storecheck import KEEP_SECONDS, StoreCheck
from grid.core.upkeep import doctor
from grid.core.wake import DISPATCHER
from tasks.views import Finding, Level
from tests.django import builders as given
from tests.support.broker import Broker, no_memory

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def looked_anew() -> Iterator[None]:
    """What an earlier test has found of its store is not this one's."""
    storecheck.problem.forget()
    yield
    storecheck.problem.forget()


def found(now: datetime = NOW) -> dict[str, Finding]:
    """The findings by name."""
    conf().dir.mkdir(parents=True, exist_ok=True)
    return {one.name: one for one in doctor.examine(now)}


class TestTheQueue:
    def test_is_well_when_nothing_waits_or_only_for_its_turn(self) -> None:
        assert (found()["queue"].level, found()["queue"].detail) == (Level.PASS, "nothing waits")
        node = given.a_node(NOW)
        given.taken(given.assigned(given.a_task(NOW, exclusive=True), node, NOW), NOW)
        given.a_task(NOW)
        said = found(given.later(NOW, 5))["queue"]
        assert said.level is Level.PASS
        assert said.detail.startswith("the oldest of 1 tasks has waited for 5s: ")

    def test_is_stuck_when_a_task_that_fits_is_not_placed(self) -> None:
        given.a_node(NOW)
        given.a_task(given.later(NOW, -40))
        said = found()["queue"]
        assert (said.level, said.detail) == (Level.FAIL, "a task that fits on a node now has waited for 40s")
        assert "is the broker well" in said.hint

    def test_says_why_what_waits_long_waits(self) -> None:
        given.a_node(NOW)
        task = given.a_task(given.later(NOW, -7200))
        fleet.cordon("alpha", by="root", reason="new disk", now=NOW)
        said = found()["queue"]
        assert said.level is Level.WARN
        assert "has waited for 2h" in said.detail
        assert said.hint.startswith(f"grid explain {task.id}")


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("its clock is 2h ahead of the server's", "set its clock right"),
        ("only 3.0 MiB are free on the disk of /var", "docker image prune"),
        ("the Docker Engine does not answer", "systemctl start docker"),
        ("something new", "mend this on the node"),
    ],
)
def test_a_node_that_takes_nothing_has_advice_that_fits_its_reason(reason: str, hint: str) -> None:
    node = given.a_node(NOW)
    nodes.heartbeat(node, given.a_beat(node, ready=False, not_ready_reason=reason), NOW)
    said = found()["node alpha"]
    assert (said.level, said.detail) == (Level.FAIL, reason)
    assert hint in said.hint
    away = found(given.later(NOW, 600))["node alpha"]
    assert "grid nodes restart alpha" in away.hint


class TestTheBroker:
    @pytest.fixture
    def running(self, tmp_path: Path) -> Iterator[Broker]:
        """A broker as it should be."""
        one = Broker(tmp_path / "broker")
        one.start()
        yield one
        one.kill()

    def test_that_keeps_its_messages_is_well(self, running: Broker) -> None:
        said = {one.name: one for one in condition.look(running.url)}
        assert {name: one.level for name, one in said.items()} == {
            "broker-memory": Level.PASS,
            "broker-persistence": Level.PASS,
        }

    def test_that_may_throw_messages_away_or_forgets_them_is_not(self, running: Broker) -> None:
        with redis.Redis.from_url(running.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("appendonly", "no")
            said = {one.name: one for one in condition.look(running.url)}
            assert [one.level for one in said.values()] == [Level.WARN, Level.WARN]
            assert "noeviction" in said["broker-memory"].hint
            assert "appendonly yes" in said["broker-persistence"].hint
            with no_memory(client):
                assert next(condition.look(running.url)).level is Level.FAIL
            client.config_set("maxmemory-policy", "noeviction")
            with no_memory(client):
                full = next(condition.look(running.url))
            assert (full.level, "raise maxmemory" in full.hint) == (Level.FAIL, True)

    def test_that_cannot_write_is_told_of(self) -> None:
        said = condition.persistence({"aof_enabled": 1, "aof_last_write_status": "err"})
        assert (said.level, said.detail) == (Level.FAIL, "aof_last_write_status is err")

    def test_that_may_not_be_asked_is_told_of(self, running: Broker) -> None:
        with redis.Redis.from_url(running.url) as client:
            client.acl_setuser("grid", enabled=True, passwords=["+pass"], keys=["*"], commands=["+@all", "-info"])
        (said,) = condition.look(running.url.replace("redis://", "redis://grid:pass@"))
        assert (said.level, said.hint) == (Level.WARN, "allow its user the command INFO")

    def test_of_another_protocol_is_left_alone(self) -> None:
        assert list(condition.look("amqp://guest@127.0.0.1:1//")) == []


class TestTheStore:
    def test_that_takes_nothing_makes_the_server_not_ready(self) -> None:
        now = timezone.now()
        locks.acquire(DISPATCHER, "me", "", now=now, seconds=30)
        assert Client().get("/health").json()["store"] is True
        assert Client().get("/health").status_code == 200
        assert found(now)["store"].level is Level.PASS

        incoming = conf().dir / "blobs" / "incoming"
        incoming.rmdir()
        incoming.write_bytes(b"a file where the folder was")
        storecheck.problem.forget()
        answer = Client().get("/health")
        assert (answer.status_code, answer.json()["ready"], answer.json()["database"]) == (503, False, True)
        assert answer.json()["problem"] == "nothing can be stored: Not a directory"
        assert Client().get("/health/live").status_code == 200
        said = found(now)["store"]
        assert (said.level, "read-only" in said.hint) == (Level.FAIL, True)

    def test_is_not_written_to_as_often_as_somebody_asks(self) -> None:
        moment = [0.0]
        asked: list[float] = []

        def store() -> Store:
            asked.append(moment[0])
            return get_store()

        check = StoreCheck(store, clock=lambda: moment[0])
        assert [check() for _ in range(100)] == [""] * 100
        moment[0] = KEEP_SECONDS
        assert check() == ""
        assert asked == [0.0, KEEP_SECONDS]
