"""Every database test has a server's folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import connection, connections
from pytest_django import DjangoDbBlocker

from grid.core import offers, unread
from grid.core.contents.store import get_store
from grid.core.people import access, quotas, tokens


def pytest_configure(config: pytest.Config) -> None:
    """Nobody closes the connections of the threads of a test's own event loop, which end with it; a server's stay."""
    config.addinivalue_line("filterwarnings", "ignore:.* was deleted while still open:ResourceWarning")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SQLite in a file, as in earnest: in memory, threads that meet are refused at once instead of waiting in turn."""
    default = connections["default"]
    if default.vendor == "sqlite":
        default.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "grid.sqlite3")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """PostgreSQL removes no database that somebody is connected to, as threads of the server still are at the end."""
    yield
    if connection.vendor == "postgresql":
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_terminate_backend(pid) {others}")


@pytest.fixture(autouse=True)
def grid_dir(settings: LazySettings, tmp_path: Path) -> Iterator[Path]:
    """The folder of blobs and logs, in place of the machine's own."""
    settings.GRID = settings.GRID.model_copy(update={"dir": tmp_path / "grid"})
    get_store.cache_clear()
    offers.forget()
    access.forget()
    quotas.forget()
    tokens.forget()
    unread.forget()
    yield tmp_path / "grid"
    get_store.cache_clear()
