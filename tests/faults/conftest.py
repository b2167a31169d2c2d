"""Grids for tests that break them: one for each file, whose faults every test mends again, and new ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.support.grid_fixtures import LEASE_SECONDS, new_grid, pytest_runtest_makereport
from tests.support.grids import RunningGrid
from tests.support.images import ensure_test_image

__all__ = ["grid", "grid_options", "new_grid", "pytest_runtest_makereport"]


# The files that take longest come first, so that none of them is begun when all others are done.
LONGEST = ("engine", "dispatchers", "soak", "server_clock", "disk", "nodes", "server", "database")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in the order in which they are best begun."""
    order = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="module")
def grid_options() -> Mapping[str, object]:
    """The arguments of ``RunningGrid`` for the grid of a file; a file that wants others has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, grid_options: Mapping[str, object]) -> Iterator[RunningGrid]:
    """The grid that the tests of one file share, with leases of two seconds; a test mends what it breaks."""
    # Made before the nodes look which images there are: one they have not seen may be refused.
    ensure_test_image()
    options: dict[str, object] = {"lease_seconds": LEASE_SECONDS, **grid_options}
    with RunningGrid(tmp_path_factory.mktemp("grid"), **options) as running:  # type: ignore[arg-type]  # of all kinds
        yield running
