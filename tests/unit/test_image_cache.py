"""The images that a node fetched itself make room for each other, the least recently used first; others never go."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from nodes.imagecache import ImageCache, Room, read_record
from nodes.images import Images
from nodes.runtimes.fake import FakeImages
from tasks.errors import NodeFault
from tests.support.node_api import eventually

GIB = 1024**3
REGISTRY = {"a", "b", "c", "d"}


class Clock:
    """A wall clock that stands still until it is moved."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Lab:
    """A node with a foreign image and a registry; each image has a gibibyte."""

    def __init__(self, folder: Path, budget_bytes: int | None = None) -> None:
        self.clock = Clock()
        self.room: Room | None = None
        self.source = FakeImages(there={"foreign"}, registry=REGISTRY)
        self.source.sizes = dict.fromkeys({*REGISTRY, "foreign"}, GIB)
        self.path = folder / "images.json"
        self.open(budget_bytes)

    def open(self, budget_bytes: int | None) -> None:
        """Start the node, or start it again."""
        self.cache = ImageCache(
            self.path, self.source, budget_bytes=budget_bytes, room=lambda: self.room, clock=self.clock
        )
        self.images = Images(self.source, cache=self.cache, clock=self.clock)

    def run(self, *references: str) -> None:
        """Run a task of each image, one after the other, minutes apart."""
        for reference in references:
            self.clock.now += 120
            with self.images.using(reference):
                self.images.ensure(reference)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_over_the_budget_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    lab = Lab(tmp_path, budget_bytes=2 * GIB)
    lab.run("a", "b", "c", "a")
    assert lab.images.trim() == 1
    assert lab.source.there == {"foreign", "a", "c"}
    assert lab.images.trim() == 0
    assert lab.cache.words == "2 images, 2G of 2G"


def test_without_a_budget_only_a_low_disk_makes_images_go(lab: Lab) -> None:
    lab.run("a", "b", "c", "d")
    lab.room = Room(free_bytes=20 * GIB, total_bytes=100 * GIB)
    assert lab.images.trim() == 0
    lab.room = Room(free_bytes=13 * GIB + 1, total_bytes=200 * GIB)  # 20G are the reserve, 30G are enough again
    assert lab.images.trim() == 4
    lab.run("a", "b")
    lab.room = Room(free_bytes=GIB, total_bytes=16 * GIB)  # 2G are the reserve, 3G are enough again
    assert lab.images.trim() == 2
    assert lab.source.there == {"foreign"}


def test_a_foreign_image_stays_however_low_the_disk_is(lab: Lab) -> None:
    lab.room = Room(free_bytes=0, total_bytes=100 * GIB)
    lab.run("foreign")
    assert lab.images.trim() == 0
    assert lab.source.there == {"foreign"}


def test_an_image_that_came_to_be_another_is_not_ours_any_more(tmp_path: Path) -> None:
    lab = Lab(tmp_path, budget_bytes=0)
    lab.run("a")
    known = json.loads(lab.path.read_bytes())
    known["a"]["id"] = "sha256:another"
    lab.path.write_text(json.dumps(known))
    lab.open(0)
    assert lab.images.trim() == 0
    assert "a" in lab.source.there
    assert read_record(lab.path) == {}


def test_an_image_in_use_stays_until_the_task_has_ended(tmp_path: Path) -> None:
    lab = Lab(tmp_path, budget_bytes=0)
    with lab.images.using("a"):
        lab.images.ensure("a")
        assert lab.images.trim() == 0
    lab.source.in_use.add("a")  # a container that this agent knows nothing of
    assert lab.images.trim() == 0
    lab.source.in_use.clear()
    assert lab.images.trim() == 1
    assert "a" not in lab.source.there


def test_a_task_that_comes_while_its_image_goes_waits_and_fetches_it_again(tmp_path: Path) -> None:
    lab = Lab(tmp_path, budget_bytes=0)
    lab.run("a")
    going, go = threading.Event(), threading.Event()

    def slowly(reference: str) -> bool:
        going.set()
        assert go.wait(20)
        lab.source.there.discard(reference)
        return True

    lab.source.remove = slowly  # type: ignore[method-assign]
    trimming = threading.Thread(target=lab.images.trim)
    trimming.start()
    assert going.wait(20)
    task = threading.Thread(target=lab.run, args=("a",))
    task.start()
    go.set()
    trimming.join()
    task.join()
    assert lab.source.pulls["a"] == 2
    assert "a" in lab.source.there


def test_the_record_outlives_the_agent(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.run("a", "b", "a")
    lab.open(GIB)
    assert lab.images.trim() == 1
    assert lab.source.there == {"foreign", "a"}


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"odd": 1}}'])
def test_a_record_that_cannot_be_read_makes_nothing_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / "images.json").write_text(text)
    lab = Lab(tmp_path, budget_bytes=0)
    assert lab.images.trim() == 0


def test_a_pull_that_meets_a_full_disk_is_tried_once_more_with_room(lab: Lab) -> None:
    lab.run("a")
    pull, full = lab.source.pull, [True]

    def fails_once(reference: str, progress: object) -> None:
        if full:
            full.pop()
            raise NodeFault("node_disk", "no space left on device")
        pull(reference, lambda told: None)

    lab.source.pull = fails_once  # type: ignore[method-assign]
    lab.run("b")
    assert lab.source.there == {"foreign", "b"}
    full.append(True)
    lab.source.in_use.add("b")
    with pytest.raises(NodeFault, match="no space left"):
        lab.run("c")


def test_many_tasks_at_once_lose_no_image(tmp_path: Path) -> None:
    lab = Lab(tmp_path, budget_bytes=GIB)
    missed: list[str] = []

    def work(reference: str) -> None:
        for _ in range(50):
            with lab.images.using(reference):
                lab.images.ensure(reference)
                if reference not in lab.source.there:
                    missed.append(reference)
                lab.clock.now += 61

    workers = [threading.Thread(target=work, args=(name,)) for name in sorted(REGISTRY)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        lab.images.trim()
    eventually(lambda: lab.images.trim() == 0)
    assert missed == []
    assert len(lab.source.there & REGISTRY) <= 1
