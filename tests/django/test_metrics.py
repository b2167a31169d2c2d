"""The figures for Prometheus: right, cheap, and named as the dashboard and the alerts name them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from grid.core import fleet, locks, nodes, outcomes
from grid.core.conf import conf
from grid.core.dispatcher import Dispatcher
from grid.core.people.tokens import Scope
from grid.core.wake import DISPATCHER
from tasks.states import Phase
from tests.django import builders as given
from tests.django import doors
from tests.support.publishers import RecordingPublisher
from webapp import metrics
from webapp.metrics import Kept

pytestmark = pytest.mark.django_db

COMPOSE = Path(__file__).resolve().parents[2] / "compose"
DASHBOARD = COMPOSE / "grafana" / "celery-grid.json"
ALERTS = COMPOSE / "prometheus" / "alerts.yml"
# Metrics of Prometheus itself, which it makes of every scrape.
OF_PROMETHEUS = {"up"}
# What stands in an expression and is no metric.
WORDS = {"by", "on", "and", "or", "unless", "without", "ignoring", "group_left", "bool", "sum", "max", "min", "rate"}
WORDS |= {"increase", "topk", "histogram_quantile", "avg", "count"}

Figures = Mapping[tuple[str, ...], float]


@pytest.fixture(autouse=True)
def counted_anew() -> None:
    """Counts that an earlier test has made are not those of this one."""
    metrics.forget()


def scraped() -> str:
    """What Prometheus is told."""
    metrics.forget()
    answer = doors.api_of(given.a_user(), Scope.READ).get("/metrics")
    assert answer.status_code == 200
    return answer.content.decode()


def figures_of(text: str) -> Figures:
    """The samples, by their names and the values of their labels."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def names_of(text: str) -> set[str]:
    """Every name that a query may use, also of those without a sample at this moment."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    families = text_string_to_metric_families(text)
    found = {f"{family.name}{suffix}" for family in families for suffix in suffixes.get(family.type, ("",))}
    return {name for name in found if not name.endswith("_created")}


def test_a_stranger_and_a_token_that_may_not_read_learn_nothing() -> None:
    assert Client().get("/metrics").status_code == 401
    assert doors.api_of(given.a_user(), Scope.SUBMIT).get("/metrics").status_code == 403


def test_the_queue_the_attempts_and_the_store_are_counted() -> None:
    now = timezone.now()
    _, attempt, order = given.running(now)
    content = {"out": b"x" * 1000}
    given.finished(order, attempt.node, now, exit_code=1)
    second = given.taken(given.assigned(given.a_task(now), attempt.node, now), now)
    nodes.heartbeat(attempt.node, given.a_beat(attempt.node, second), now)
    given.assigned(given.a_task(now - timedelta(seconds=90)), attempt.node, now - timedelta(seconds=70))
    given.a_task(now - timedelta(seconds=60))
    figures = figures_of(scraped())
    assert {state: figures["grid_tasks", state] for state in ("queued", "assigned", "running", "waiting")} == {
        "queued": 1,
        "assigned": 1,
        "running": 1,
        "waiting": 0,
    }
    assert figures["grid_attempts_total", "exit_code", "user"] == 1
    assert figures["grid_attempts_active", str(Phase.EXECUTING), "running"] == 1
    assert figures["grid_attempts_active", "", "assigned"] == 1
    assert figures["grid_queue_oldest_seconds",] >= 60
    assert figures["grid_assigned_oldest_seconds",] >= 70
    assert (figures["grid_blobs",], figures["grid_blob_bytes",]) == (0, 0)
    metrics.forget()
    outcomes.accept(attempt.node, given.an_outcome(second, content), now)
    figures = figures_of(scraped())
    assert (figures["grid_blobs",], figures["grid_blob_bytes",]) == (1, 1000)
    assert figures["grid_server_disk_free_bytes",] > 0


def test_what_nodes_have_left_and_how_fresh_their_word_is() -> None:
    now = timezone.now()
    node, _, order = _busy(now - timedelta(seconds=20))
    fleet.cordon("alpha", by="root", reason="", now=now)
    figures = figures_of(scraped())
    offered = given.facts().capacity
    assert figures["grid_node_free_slots", "alpha"] == offered.slots - 1
    assert figures["grid_node_free_cpus", "alpha"] == offered.cpus - 1
    assert figures["grid_node_free_memory_bytes", "alpha"] == offered.memory - 64 * 1024**2
    assert figures["grid_node_free_disk_bytes", "alpha"] == offered.storage - 2 * 1024**2
    assert 20 <= figures["grid_node_heartbeat_age_seconds", "alpha"] < 60
    assert 20 <= figures["grid_node_lease_age_seconds", "alpha"] < 60
    assert (figures["grid_node_ready", "alpha"], figures["grid_node_mode", "alpha", "cordoned"]) == (0, 1)
    nodes.heartbeat(node, given.a_beat(node, order), timezone.now())
    figures = figures_of(scraped())
    assert figures["grid_node_heartbeat_age_seconds", "alpha"] < 20
    assert figures["grid_node_lease_age_seconds", "alpha"] < 20


def _busy(now: datetime) -> tuple[Any, Any, Any]:
    task, attempt, order = given.running(now, limits={"memory": "64M", "cpus": 1, "time": "5s", "storage": "2M"})
    assert task.id == order.task
    return attempt.node, attempt, order


class TestTheDispatcher:
    def test_lags_by_the_age_of_what_it_could_place_and_not_by_the_length_of_the_queue(self) -> None:
        now = timezone.now()
        given.a_node(now)
        given.a_node(now, "beta", tags=("rare",))
        fleet.cordon("beta", by="root", reason="", now=now)
        given.a_task(now - timedelta(hours=2), requires=["rare"])
        assert figures_of(scraped())["grid_dispatcher_lag_seconds",] == 0
        given.a_task(now - timedelta(minutes=5))
        assert 300 <= figures_of(scraped())["grid_dispatcher_lag_seconds",] < 600
        dispatcher = Dispatcher(conf(), RecordingPublisher(), "me", "")
        assert dispatcher.lead(now)
        assert dispatcher.dispatch(timezone.now) == 1
        assert figures_of(scraped())["grid_dispatcher_lag_seconds",] == 0

    def test_is_seen_to_act_and_to_fall_silent(self) -> None:
        now = timezone.now()
        assert figures_of(scraped())["grid_dispatcher_renewed_seconds",] == float("inf")
        locks.acquire(DISPATCHER, "me", "", now=now, seconds=5)
        figures = figures_of(scraped())
        assert (figures["grid_dispatcher_acts",], figures["grid_dispatcher_fence",]) == (1, 1)
        assert figures["grid_dispatcher_renewed_seconds",] < 5
        locks.acquire(DISPATCHER, "other", "", now=now + timedelta(seconds=5), seconds=-35)
        figures = figures_of(scraped())
        assert (figures["grid_dispatcher_acts",], figures["grid_dispatcher_fence",]) == (0, 2)
        assert figures["grid_dispatcher_changes_total",] == 2
        assert figures["grid_dispatcher_renewed_seconds",] >= 30
        assert figures["grid_dispatcher_overdue_seconds",] >= 25


def test_requests_are_timed_by_their_routes_and_not_by_what_is_asked_of_them() -> None:
    for number in range(3):
        Client().get(f"/api/v1/tasks/{number}")
        Client().get(f"/there-is-no-such-page-{number}")
    figures = figures_of(scraped())
    assert figures["grid_http_request_seconds_count", "4xx", "GET", "api/v1/tasks/<task_id>"] >= 3
    assert figures["grid_http_request_seconds_bucket", "+Inf", "4xx", "GET", "none"] >= 3
    assert not [key for key in figures if "there-is-no-such-page-1" in "".join(key)]


def test_what_took_long_to_count_is_not_counted_at_every_scrape() -> None:
    made: list[float] = []
    moment = [0.0]

    def count() -> int:
        made.append(moment[0])
        moment[0] += 0.2  # so long does it take
        return len(made)

    kept = Kept(count, clock=lambda: moment[0])
    assert (kept(), kept()) == (1, 1)
    moment[0] = 10.1
    assert kept() == 1
    moment[0] = 10.3
    assert kept() == 2
    kept.forget()
    assert kept() == 3


def named_in(expression: str) -> set[str]:
    """The metrics of an expression: words that are neither functions, nor labels, nor within braces or brackets."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", expression)
    bare = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"[a-z_][a-z0-9_]*", bare)) - WORDS


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression of the dashboard and of the alerts, with its title."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def test_every_metric_of_the_dashboard_and_of_the_alerts_exists() -> None:
    given.running(timezone.now())
    known = names_of(scraped()) | OF_PROMETHEUS
    named = {(title, name) for title, expression in expressions() for name in named_in(expression)}
    assert {(title, name) for title, name in named if name not in known} == set()
    assert len({name for _, name in named}) > 25


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    shown = set().union(*(named_in(expression) for _, expression in expressions()))
    ours = {name for name in names_of(scraped()) if name.startswith("grid_")}
    assert ours - shown == set()


def test_the_dashboard_is_one_of_grafana_with_room_for_each_panel() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert (board["uid"], board["templating"]["list"][0]["type"]) == ("celery-grid", "datasource")
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_every_alert_says_what_is_wrong_and_is_explained_to_operators() -> None:
    page = (COMPOSE.parent / "docs" / "operating.md").read_text()
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) >= 8
    for rule in rules:
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"`{rule['alert']}`" in page


def test_the_example_of_a_scrape_asks_where_the_figures_are() -> None:
    example = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yml").read_text())
    (job,) = example["scrape_configs"]
    assert job["job_name"] in ALERTS.read_text()
    assert "credentials_file" in job["authorization"]
    assert example["rule_files"] == [ALERTS.name]
    assert Client().get(job["metrics_path"]).status_code == 401
