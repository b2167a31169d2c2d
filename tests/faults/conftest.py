"""Grids for tests that break them: files of a group share one, in which every test mends what it breaks; and new ones.

To start a grid takes the processor longer than most tests do, and with four at a time the processor is what they wait
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.broker import small_disk
from tests.support.grid_fixtures import LEASE_SECONDS, new_grid, pytest_runtest_makereport
from tests.support.grids import RunningGrid
from tests.support.images import ensure_test_image

__all__ = ["grid", "new_grid", "pytest_runtest_makereport", "shared_grid"]

BROKER_DISK_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class Group:
    """Files that share a grid, one after the other: the arguments of its ``RunningGrid``, and its broker's own disk."""

    files: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    small_broker_disk: bool = False


GROUPS: Mapping[str, Group] = {
    # Leases that nobody loses on a busy machine, and little patience with a phase.
    "slow": Group(("engine", "disk"), {"node": False, "lease_seconds": 10, "run_grace_seconds": 2}),
    # Leases that outlast every fault, for here nothing may be lost; and nobody waits long for a lock of the database.
    "patient": Group(("reports", "server", "database"), {"lease_seconds": 60, "database_wait_seconds": 2}),
    # Nodes of the tests' own, each with a tag by which only their tasks go there.
    "lost": Group(("nodes", "clocks", "network"), {"node": False}),
    "usual": Group(("broker", "messages", "containers"), small_broker_disk=True),
}
"""By the name of the group: four, one for each of the processes. What is in none of them comes after them."""

ALONE = ("server_clock", "dispatchers", "database_server")
"""Files with grids of their own, the longest first."""


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # the package tells no types
    """Gives all tests of a group to one process; those over another database are another group."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, name = nodeid.partition("::")
        return group_of(Path(path)) + ("[postgres]" if name.endswith("[postgres]") else "")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """Whatever ``--dist`` says: processes that break each other's grid would prove nothing."""
    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups in the order in which they are best begun, and their files one after the other."""
    order = [*(name for group in GROUPS.values() for name in group.files), *ALONE]
    places = {name: place for place, name in enumerate(order)}
    items.sort(key=lambda item: places.get(file_of(item.path), len(places)))


def file_of(path: Path) -> str:
    """``engine`` for ``test_engine.py``."""
    return path.stem.removeprefix("test_")


def group_of(path: Path) -> str:
    """The name of the file's group; its own name when it is in none."""
    name = file_of(path)
    return next((group for group, about in GROUPS.items() if name in about.files), name)


@pytest.fixture(scope="session")
def shared_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RunningGrid]]:
    """The grid of a group by its name; that of the group before is ended when another one is asked for."""
    running: dict[str, RunningGrid] = {}
    with ExitStack() as stack:

        def of(name: str) -> RunningGrid:
            if name not in running:
                stack.close()
                running.clear()
                folder, group = tmp_path_factory.mktemp(name), GROUPS[name]
                if group.small_broker_disk:
                    stack.enter_context(small_disk(folder / "grid" / "broker", BROKER_DISK_BYTES))
                # Made before the nodes look which images there are: one they have not seen may be refused.
                ensure_test_image()
                made = RunningGrid(folder, **{"lease_seconds": LEASE_SECONDS, **group.options})
                running[name] = stack.enter_context(made)
            return running[name]

        yield of


@pytest.fixture(scope="module")
def grid(request: pytest.FixtureRequest, shared_grid: Callable[[str], RunningGrid]) -> Iterator[RunningGrid]:
    """The grid that the files of a group share; the nodes that a file has added to it go with the file."""
    running = shared_grid(group_of(request.path))
    yield running
    running.retire_nodes()
