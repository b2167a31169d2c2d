"""Having the image of a task on the node: looked for, fetched if need be, once however many tasks want it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Protocol

from nodes.imagecache import Image, ImageCache
from tasks.errors import NodeFault

# How long an image that was seen may be taken to be there still: tasks often come in crowds that want the same one.
FRESH_SECONDS = 2.0


class PullPolicy(StrEnum):
    """When an image is fetched from its registry."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is, over all layers known so far."""

    reference: str
    done_bytes: int
    total_bytes: int


Progress = Callable[[PullProgress], None]


class ImageSource(Protocol):
    """Where images are kept and come from. Faults are raised as ``NodeFault``."""

    def find(self, reference: str) -> Image | None:
        """The image, if it is there."""

    def pull(self, reference: str, progress: Progress) -> None:
        """Fetch it. NodeFault: image_not_found, image_refused, image_pull, node_disk."""

    def references(self) -> tuple[str, ...]:
        """The names of all images that are there."""

    def remove(self, reference: str) -> bool:
        """Remove the name, and the image with its last name; False when something uses it, or it is not there."""


class Images:
    """The images of a node; for many threads at once.

    ``allowed`` are patterns of shells (``registry.lab/*``, ``python:3.*``) of which a reference must match one; None
    allows all. Without ``pull`` none is fetched, whatever the policy. ``cache`` keeps account of those fetched.
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        allowed: Iterable[str] | None = None,
        pull: bool = True,
        cache: ImageCache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._allowed = None if allowed is None else tuple(allowed)
        self._pull_allowed = pull
        self._cache = cache
        self._clock = clock
        self._lock = threading.Lock()
        self._pulls: dict[str, Future[Image]] = {}
        self._seen: dict[str, tuple[float, Image]] = {}

    def ensure(
        self, reference: str, policy: PullPolicy = PullPolicy.MISSING, progress: Progress | None = None
    ) -> Image:
        """The image, fetched as ``policy`` says; threads that ask for one and the same wait for one pull.

        Raises NodeFault: image_not_found, image_refused, image_pull, node_disk, runtime_error.
        """
        self._refuse(reference)
        policy = policy if self._pull_allowed else PullPolicy.NEVER
        if policy is not PullPolicy.ALWAYS:
            if (there := self._find(reference)) is not None:
                return there
            if policy is PullPolicy.NEVER:
                raise NodeFault("image_not_found", f"{reference} is not on this node, which fetches none")
        return self._pull_once(reference, progress or _quietly)

    def using(self, reference: str) -> AbstractContextManager[None]:
        """While this lasts the image is not removed from the node."""
        return nullcontext() if self._cache is None else self._cache.using(reference)

    def trim(self) -> int:
        """Remove images that are too much, see `ImageCache.trim`; return how many went. Raises NodeFault."""
        return 0 if self._cache is None else self._cache.trim(self._forget)

    def references(self) -> tuple[str, ...]:
        """The names of the images that are there. Raises NodeFault when the engine does not answer."""
        return self._source.references()

    def _refuse(self, reference: str) -> None:
        if self._allowed is not None and not any(fnmatchcase(reference, pattern) for pattern in self._allowed):
            raise NodeFault("image_refused", f"{reference} is not among the images that this node may run")

    def _find(self, reference: str) -> Image | None:
        now = self._clock()
        at, image = self._seen.get(reference, (float("-inf"), None))
        if image is not None and now - at < FRESH_SECONDS:
            return image
        image = self._source.find(reference)
        if image is not None:
            self._remember(reference, image)
        return image

    def _pull_once(self, reference: str, progress: Progress) -> Image:
        with self._lock:
            pull = self._pulls.get(reference)
            mine = pull is None
            if pull is None:
                pull = self._pulls[reference] = Future()
        if mine:
            try:
                pull.set_result(self._pull(reference, progress))
            except BaseException as error:
                pull.set_exception(error)
                raise
            finally:
                with self._lock:
                    del self._pulls[reference]
        return pull.result()

    def _pull(self, reference: str, progress: Progress) -> Image:
        try:
            self._source.pull(reference, progress)
        except NodeFault as fault:
            if fault.kind != "node_disk" or self._cache is None or not self._cache.make_room(self._forget):
                raise
            self._source.pull(reference, progress)
        image = self._source.find(reference)
        if image is None:
            raise NodeFault("image_pull", f"{reference} was fetched, but is not there")
        if self._cache is not None:
            self._cache.fetched(reference, image)
        self._remember(reference, image)
        return image

    def _remember(self, reference: str, image: Image) -> None:
        now = self._clock()
        with self._lock:
            self._seen = {name: seen for name, seen in self._seen.items() if now - seen[0] < FRESH_SECONDS}
            self._seen[reference] = (now, image)

    def _forget(self, reference: str) -> None:
        with self._lock:
            self._seen.pop(reference, None)


def _quietly(progress: PullProgress) -> None:
    """Nobody wants to know."""
