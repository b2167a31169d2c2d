"""What the daemon does every second must not grow with all that has ever run: its questions are answered by indexes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from grid.core import snapshot
from grid.core.broker.publisher import Publisher
from grid.core.conf import conf
from grid.core.delivery import outbox
from grid.core.dispatcher import MOST_HEADS, Dispatcher
from grid.core.ids import new_id
from grid.core.models import Attempt, Task
from grid.core.reading import explain
from grid.core.reconciler import Reconciler
from grid.core.rows import insert
from tasks.notices import DeliveryState
from tasks.order import Capacity
from tests.django import builders as given

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL decides by what the tables hold"),
]

# These hold no more than what is under way.
SMALL = ("attempt_active", "task_expiring", "task_delayed")


def plans(action: Callable[[], object], tables: tuple[str, ...] = ("core_task", "core_attempt")) -> list[str]:
    """How SQLite answered each question that was asked of these tables."""
    with CaptureQueriesContext(connection) as asked:
        action()
    questions = [one["sql"] for one in asked if one["sql"].startswith("SELECT")]
    found = []
    with connection.cursor() as cursor:
        for question in questions:
            cursor.execute(f"EXPLAIN QUERY PLAN {question}")
            found += [row[3] for row in cursor.fetchall()]
    return [line for line in found if any(table in line for table in tables)]


def read_whole(lines: list[str]) -> list[str]:
    """Those that walk over a table, or over all tasks of one owner."""
    return [
        line
        for line in lines
        if (line.startswith("SCAN") or "core_task_owner_id" in line) and not any(name in line for name in SMALL)
    ]


@pytest.fixture
def now() -> datetime:
    """A grid on which something has ended, runs, waits and is queued."""
    now = timezone.now()
    given.running(now)
    given.a_task(now, expires=3600)
    return now


def test_a_tick_of_the_reconciler_reads_no_table(now: datetime) -> None:
    publisher = Publisher("redis://127.0.0.1:1/0")
    dispatcher = Dispatcher(conf(), publisher, "here", "127.0.0.1:9")
    assert dispatcher.lead(now)
    reconciler = Reconciler(conf(), dispatcher, publisher)

    def work() -> None:
        for _ in range(5):
            reconciler.tick(now)
            reconciler.cancels(now)

    lines = plans(work)
    assert lines
    assert read_whole(lines) == []


def test_the_first_tasks_of_a_demand_are_found_by_its_own_index(now: datetime) -> None:
    lines = plans(lambda: snapshot.backlogs(32))
    assert any("task_queued (state=? AND demand_id=?)" in line for line in lines)
    assert read_whole(lines) == []


def test_a_submit_with_a_key_reads_none_of_the_owners_tasks(now: datetime) -> None:
    lines = plans(lambda: given.a_task(now, key="k1"))
    assert any("task_idempotency" in line for line in lines)
    assert read_whole(lines) == []


@pytest.mark.parametrize(
    ("staff", "index"), [(False, "delivery_owner_state (owner_id=? AND state=?"), (True, "delivery_state (state=?")]
)
def test_deliveries_that_failed_are_found_without_those_that_did_not(staff: bool, index: str) -> None:
    user = given.a_user(staff=staff)
    [line] = plans(lambda: outbox.page(user, DeliveryState.FAILED, "", 10), ("core_delivery",))
    assert line.startswith(f"SEARCH core_delivery USING INDEX {index}")


def test_a_thousand_tasks_are_placed_at_once(now: datetime) -> None:
    """SQLite takes an expression of a thousand alternatives for too deep."""
    count = 1001
    given.a_node(
        now, "big", capacity=Capacity(cpus=2 * count, memory=1024**4, storage=10 * 1024**4, pids=10**6, slots=2 * count)
    )
    pattern = given.a_task(now)
    columns = [field.attname for field in Task._meta.concrete_fields]
    facts = {name: getattr(pattern, name) for name in columns}
    insert(Task(**{**facts, "id": new_id()}) for _ in range(count))
    dispatcher = Dispatcher(conf(), Publisher("redis://127.0.0.1:1/0"), "here", "127.0.0.1:9")
    assert dispatcher.lead(now)
    assert dispatcher.dispatch(lambda: now) > MOST_HEADS - 100
    assert Attempt.objects.filter(node__name="big").count() >= MOST_HEADS - 100


def test_of_a_long_queue_so_much_is_counted_and_the_answer_says_so(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [given.a_task(now) for _ in range(4)]
    told = explain.explain(tasks[-1], now)
    assert (told.position, told.queued, told.exact) == (5, 5, True)
    monkeypatch.setattr(explain, "MOST_COUNTED", 2)
    told = explain.explain(tasks[-1], now)
    assert (told.position, told.queued, told.exact) == (3, 3, False)


def test_no_index_leads_with_what_its_own_condition_fixes() -> None:
    """PostgreSQL does not look such a column up, and walks the whole index to compare the others."""
    fixed = [
        index.name
        for model in apps.get_app_config("core").get_models()
        for index in model._meta.indexes
        if index.condition is not None
        and index.condition.children == [(index.fields[0], index.condition.children[0][1])]
    ]
    assert fixed == []
