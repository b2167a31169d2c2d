"""The real Docker runtime of this test process, and its leftovers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodes.runtimes.docker import DockerRuntime
from tests.support.jobs import NODE


@pytest.fixture(scope="module")
def docker_runtime() -> Iterator[DockerRuntime]:
    """A runtime whose containers are all gone afterwards."""
    runtime = DockerRuntime(NODE)
    yield runtime
    runtime.reap(())
    runtime.close()
