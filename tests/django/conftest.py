"""Every database test has a server's folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings

from grid.core.store import get_store


@pytest.fixture(autouse=True)
def grid_dir(settings: LazySettings, tmp_path: Path) -> Iterator[Path]:
    """The folder of blobs and logs, in place of the machine's own."""
    settings.GRID = settings.GRID.model_copy(update={"dir": tmp_path / "grid"})
    get_store.cache_clear()
    yield tmp_path / "grid"
    get_store.cache_clear()
