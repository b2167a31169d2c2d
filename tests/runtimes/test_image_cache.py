"""Images that a node fetched from a real registry go when there are too many, and no others do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.imagecache import ImageCache, read_record
from nodes.images import Images
from nodes.runtimes.docker import DockerRuntime
from tests.support.images import BUSYBOX, docker, ensure_busybox, import_image, present
from tests.support.registry import Registry

pytestmark = pytest.mark.needs("docker", "registry", "busybox")

NAMES = ("cache-a:1", "cache-b:1", "cache-c:1")


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Three images of their own content that only a registry has, by short name."""
    ensure_busybox()
    with Registry(tmp_path_factory.mktemp("registry")) as registry:
        found = {}
        for name in NAMES:
            import_image(f"grid-test-{name}", {f"bin/{name[:7]}": name.encode()})
            found[name] = registry.push(f"grid-test-{name}", name)
            docker("rmi", f"grid-test-{name}")
        yield found
        for full in found.values():
            registry.forget(full)


@pytest.fixture
def runtime() -> Iterator[DockerRuntime]:
    made = DockerRuntime("test-image-cache")
    yield made
    made.close()


def test_the_least_recently_used_of_ours_goes_and_nobody_elses(
    fetched: dict[str, str], runtime: DockerRuntime, tmp_path: Path
) -> None:
    first, second, third = (fetched[name] for name in NAMES)
    before = set(docker("image", "ls", "--all", "--quiet", "--no-trunc").split())
    times = iter(range(0, 1_000_000, 100))
    cache = ImageCache(tmp_path / "images.json", runtime.images, clock=lambda: float(next(times)))
    images = Images(runtime.images, cache=cache)
    for reference in (first, second, third, first):
        with images.using(reference):
            images.ensure(reference)
    images.ensure(BUSYBOX)
    assert set(read_record(tmp_path / "images.json")) == {first, second, third}
    assert cache.used_bytes > 3 * 100_000
    size = cache.used_bytes // 3
    container = docker("create", second, "true").decode().strip()
    try:
        tight = ImageCache(tmp_path / "images.json", runtime.images, budget_bytes=size * 2)
        assert Images(runtime.images, cache=tight).trim() == 1
        assert [present(reference) for reference in (first, second, third)] == [True, True, False]
    finally:
        docker("rm", container)
    none = ImageCache(tmp_path / "images.json", runtime.images, budget_bytes=0)
    assert Images(runtime.images, cache=none).trim() == 2
    assert not present(first)
    assert not present(second)
    assert read_record(tmp_path / "images.json") == {}
    assert set(docker("image", "ls", "--all", "--quiet", "--no-trunc").split()) >= before
    assert present(BUSYBOX)


def test_an_image_that_somebody_else_has_named_keeps_its_layers(
    fetched: dict[str, str], runtime: DockerRuntime, tmp_path: Path
) -> None:
    reference, theirs = fetched[NAMES[0]], "grid-test-cache-theirs:1"
    cache = ImageCache(tmp_path / "images.json", runtime.images, budget_bytes=0)
    images = Images(runtime.images, cache=cache)
    with images.using(reference):
        images.ensure(reference)
    docker("tag", reference, theirs)
    try:
        images.trim()
        assert not present(reference)
        assert present(theirs)
        assert (
            subprocess.run(
                ["docker", "run", "--rm", "--network", "none", theirs, "true"], capture_output=True, check=False
            ).returncode
            == 0
        )
    finally:
        docker("rmi", theirs)


def test_the_disk_of_the_engine_is_seen(runtime: DockerRuntime) -> None:
    room = runtime.images.room()
    assert room is not None
    assert 0 < room.free_bytes < room.total_bytes
