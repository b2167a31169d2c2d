"""Data that is there when a migration comes keeps its meaning."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import StateApps
from django.utils import timezone

pytestmark = pytest.mark.django_db(transaction=True)


def migrated(name: str) -> StateApps:
    """The models as they are once the grid's tables are those of this migration."""
    executor = MigrationExecutor(connection)
    executor.migrate([("core", name)])
    return MigrationExecutor(connection).loader.project_state([("core", name)]).apps


@pytest.fixture(autouse=True)
def newest_at_the_end(transactional_db: None) -> Iterator[None]:
    """The other tests need the tables of today."""
    yield
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def test_a_drained_node_is_draining_afterwards_and_back(transactional_db: None) -> None:
    old = migrated("0001_initial").get_model("core", "Node").objects
    for name, drained in (("alpha", True), ("beta", False)):
        old.create(name=name, created_at=timezone.now(), drained=drained)
    new = migrated("0002_node_mode").get_model("core", "Node").objects
    assert dict(new.values_list("name", "mode")) == {"alpha": "draining", "beta": "open"}
    new.filter(name="beta").update(mode="cordoned")
    again = migrated("0001_initial").get_model("core", "Node").objects
    assert set(again.values_list("name", "drained")) == {("alpha", True), ("beta", True)}
