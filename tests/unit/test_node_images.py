"""Images are found or fetched, once for all who want them, and whoever is at fault is named."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nodes.images import Images, PullPolicy, PullProgress
from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.images import DockerImages, digest_of, fault_of
from nodes.runtimes.fake import FakeImages
from tasks.errors import NodeFault

DNS = "Get https://registry-1.docker.io/v2/: dial tcp: lookup registry-1.docker.io: no such host"


class Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_image_that_is_there_is_not_fetched() -> None:
    source = FakeImages(there={"a"})
    image = Images(source).ensure("a")
    assert (image.id, image.digest, source.pulls.total()) == ("sha256:a", "a@sha256:0", 0)


def test_policies_say_when_to_fetch() -> None:
    source = FakeImages(there={"a"}, registry={"a", "b"})
    images = Images(source)
    images.ensure("a", PullPolicy.ALWAYS)
    images.ensure("b")
    assert source.pulls == {"a": 1, "b": 1}
    with pytest.raises(NodeFault, match="image_not_found: c is not on this node"):
        images.ensure("c", PullPolicy.NEVER)


def test_many_that_want_one_image_wait_for_one_pull() -> None:
    source = FakeImages(registry={"a"}, delay_seconds=0.2)
    images, together = Images(source), threading.Barrier(8)

    def want(_: int) -> str:
        together.wait()
        return images.ensure("a").id

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(want, range(8))) == {"sha256:a"}
    assert source.pulls == {"a": 1}


def test_all_who_wait_for_a_pull_learn_that_it_failed_and_the_next_one_tries_again() -> None:
    source = FakeImages(delay_seconds=0.1)
    images, together = Images(source), threading.Barrier(4)

    def want(_: int) -> str:
        together.wait()
        with pytest.raises(NodeFault) as fault:
            images.ensure("a")
        return fault.value.kind

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(want, range(4))) == {"image_not_found"}
    source.registry.add("a")
    assert images.ensure("a").id == "sha256:a"


def test_only_images_on_the_list_may_run() -> None:
    images = Images(FakeImages(there={"lab/a:1", "evil"}), allowed=["lab/*", "python:3.*"])
    assert images.ensure("lab/a:1").id == "sha256:lab/a:1"
    with pytest.raises(NodeFault, match="image_refused: evil is not among"):
        images.ensure("evil")


def test_an_image_seen_just_now_is_not_looked_for_again() -> None:
    source, clock = FakeImages(there={"a"}), Clock()
    images = Images(source, clock=clock)
    images.ensure("a")
    source.there.clear()
    assert images.ensure("a").id == "sha256:a"
    clock.now = 5.0
    with pytest.raises(NodeFault):
        images.ensure("a")
    assert images.references() == ()


@pytest.mark.parametrize(
    ("message", "status", "kind"),
    [
        (DNS, 500, "image_pull"),
        ("dial tcp 127.0.0.1:5000: connect: connection refused", 500, "image_pull"),
        ("toomanyrequests: You have reached your pull rate limit", 500, "image_pull"),
        (
            "pull access denied for x, repository does not exist or may require 'docker login': denied",
            404,
            "image_not_found",
        ),
        ("manifest for x:2 not found: manifest unknown", 404, "image_not_found"),
        ("invalid reference format: repository name must be lowercase", 400, "image_not_found"),
        ("unauthorized: authentication required", 500, "image_refused"),
        ("denied: requested access to the resource is denied", 403, "image_refused"),
        ("write /var/lib/docker/tmp/x: no space left on device", 500, "node_disk"),
        ("something new", 500, "image_pull"),
        ("something new", 404, "image_not_found"),
    ],
)
def test_whose_fault_a_failed_pull_is(message: str, status: int, kind: str) -> None:
    fault = fault_of("x", message, status)
    assert fault.kind == kind
    assert message in fault.message


def test_an_unreachable_registry_is_said_in_words() -> None:
    assert "x:1 is not on this node, and its registry cannot be reached" in fault_of("x:1", DNS).message


@pytest.mark.parametrize(
    ("reference", "known", "digest"),
    [
        ("busybox:1", ["busybox@sha256:1"], "busybox@sha256:1"),
        ("docker.io/library/busybox", ["other@sha256:2", "busybox@sha256:1"], "busybox@sha256:1"),
        ("lab:5000/x/y:z", ["lab:5000/x/y@sha256:3"], "lab:5000/x/y@sha256:3"),
        ("x@sha256:9", ["y@sha256:8"], "y@sha256:8"),
        ("local:1", [], "sha256:id"),
    ],
)
def test_the_digest_is_that_of_the_named_repository(reference: str, known: list[str], digest: str) -> None:
    assert digest_of(reference, "sha256:id", known) == digest


def test_an_engine_that_does_not_answer_is_a_fault_of_the_node(tmp_path: object) -> None:
    images = DockerImages(Engine(f"unix://{tmp_path}/none"))
    for ask in (lambda: images.find("a"), images.references, lambda: images.pull("a", _ignore)):
        with pytest.raises(NodeFault, match="does not"):
            ask()
    with pytest.raises(NodeFault, match="no registry is named"):
        images.pull("sha256:123", _ignore)


def _ignore(progress: PullProgress) -> None:
    """Nobody wants to know."""
