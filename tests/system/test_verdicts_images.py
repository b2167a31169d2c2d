"""Verdicts about images, with a real registry: found and fetched once, not found, not reachable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.broker import free_port
from tests.support.grids import RunningGrid
from tests.support.images import ensure_test_image
from tests.support.registry import Registry

pytestmark = pytest.mark.needs("docker", "gcc", "registry", "root")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """An empty registry."""
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_an_image_is_fetched_once_for_two_tasks_and_its_digest_recorded(grid: RunningGrid, registry: Registry) -> None:
    image = registry.push(ensure_test_image(), "lab/tool:1")
    lookups = "HEAD /v2/lab/tool/manifests/1"
    before = registry.requests(lookups)
    first, second = [grid.submit("burner", "1", "0.1", image=image) for _ in range(2)]
    results = [first.wait(60), second.wait(60)]
    assert [result.verdict for result in results] == ["succeeded", "succeeded"]
    assert registry.requests(lookups) == before + 1
    digests = {result.record.image_digest for result in results}
    assert len(digests) == 1
    assert digests.pop().startswith(f"{registry.address}/lab/tool@sha256:")


def test_an_image_that_the_registry_does_not_have(grid: RunningGrid, registry: Registry) -> None:
    image = f"{registry.address}/nothing:1"
    task = grid.submit("true", image=image)
    result = task.wait(60)
    assert (result.verdict, result.verdict_class) == ("image_not_found", "user")
    assert result.reason.startswith(f"the image was not found: {image}: ")
    assert "manifest unknown" in result.reason
    assert "check the name and the tag" in result.advice
    assert len(task.attempts()) == 1, "nobody tries again what cannot be found"


def test_a_registry_that_does_not_answer_is_no_fault_of_the_user(grid: RunningGrid) -> None:
    image = f"127.0.0.1:{free_port()}/lab/tool:1"
    task = grid.submit("true", image=image)
    result = task.wait(60)
    assert (result.verdict, result.verdict_class) == ("image_pull", "infrastructure")
    assert result.reason.startswith(f"the image could not be fetched: {image} is not on this node, and its registry")
    assert "connection refused" in result.reason
    attempts = task.attempts()
    assert [attempt.verdict for attempt in attempts] == ["image_pull"] * 4
    assert all(attempt.reason == result.reason for attempt in attempts)
