"""Every database test has a server's folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import connections

from grid.core import offers, tokens
from grid.core.store import get_store


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """SQLite in a file, as in earnest: in memory, threads that meet are refused at once instead of waiting in turn."""
    default = connections["default"]
    if default.vendor == "sqlite":
        default.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "grid.sqlite3")


@pytest.fixture(autouse=True)
def grid_dir(settings: LazySettings, tmp_path: Path) -> Iterator[Path]:
    """The folder of blobs and logs, in place of the machine's own."""
    settings.GRID = settings.GRID.model_copy(update={"dir": tmp_path / "grid"})
    get_store.cache_clear()
    offers.forget()
    tokens.forget()
    yield tmp_path / "grid"
    get_store.cache_clear()
