"""Whether the server says of itself what is true, to supervisors, to Prometheus and to clients in trouble."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone
from ninja import NinjaAPI
from prometheus_client.parser import text_string_to_metric_families

from grid.core import locks
from grid.core.wake import DISPATCHER
from tasks.errors import Unavailable
from tests.django import builders as given
from tests.django import doors
from webapp import problems
from webapp.health import look

pytestmark = pytest.mark.django_db


def test_a_server_without_a_dispatcher_is_alive_but_not_ready() -> None:
    assert Client().get("/health/live").json() == {"live": True}
    answer = Client().get("/health")
    assert answer.status_code == 503
    assert "rundispatcher" in answer.json()["problem"]


def test_a_server_whose_dispatcher_acts_is_ready_until_the_lease_lapses() -> None:
    now = timezone.now()
    given.a_node(now)
    locks.acquire(DISPATCHER, "me", "127.0.0.1:1", now=now, seconds=30)
    answer = Client().get("/health")
    assert (answer.status_code, answer.json()["nodes_online"]) == (200, 1)
    assert not look(now + timedelta(seconds=31)).ready


def test_prometheus_reads_tasks_attempts_nodes_and_the_dispatcher() -> None:
    now = timezone.now()
    _, attempt, order = given.running(now)
    given.finished(order, attempt.node, now, exit_code=1)
    given.a_task(now - timedelta(seconds=60))
    text = doors.api_of(given.a_user()).get("/metrics").content.decode()
    figures = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert figures["grid_tasks", "queued"] == 1
    assert figures["grid_attempts_total", "exit_code", "user"] == 1
    assert figures["grid_node_free_slots", "alpha"] == 8
    assert figures["grid_dispatcher_acts",] == 0
    assert figures["grid_queue_oldest_seconds",] >= 60


def test_a_database_that_is_away_is_told_as_try_again_later_and_a_fault_of_ours_as_one(
    rf: RequestFactory, caplog: pytest.LogCaptureFixture
) -> None:
    api = NinjaAPI(urls_namespace="broken", docs_url=None, openapi_url=None)
    problems.install(api)

    def answer(error: Exception) -> HttpResponse:
        return api.on_exception(rf.get("/"), error)

    locked = answer(OperationalError("database is locked"))
    later = answer(Unavailable("not now", 7.2))
    broken = answer(RuntimeError("secret detail"))
    assert (locked.status_code, locked.headers["Retry-After"]) == (503, "1")
    assert (later.status_code, later.headers["Retry-After"]) == (503, "8")
    assert broken.status_code == 500
    assert b"secret detail" not in broken.content
    assert "secret detail" in caplog.text


def test_the_api_describes_itself_with_files_of_our_own() -> None:
    page = Client().get("/api/docs").content.decode()
    assert "/static/ninja/swagger-ui-bundle.js" in page
    assert "https://" not in page
    script = Client().get("/static/ninja/swagger-ui-bundle.js")
    script.close()
    assert script.status_code == 200
