"""The images that a node fetched itself for tasks: which they are, when they were used, and which of them go first.

Only these are ever removed. An image that somebody else fetched, built or loaded is not in the record, and one that
came to mean something else since it was fetched (its id is another) is taken out of it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from nodes.journal import event
from nodes.spool import write_durably
from tasks.units import human_size

# Below this much of the engine's disk our images make room, until there is half as much again.
RESERVE_BYTES = 2 * 1024**3
RESERVE_SHARE = 0.1
_ENOUGH = 1.5
# A use is written down when it is so much later than the one that is.
_GRAIN_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is there. ``id`` names its content: run that, for a name may come to mean something else.

    ``digest`` is ``repository@sha256:...`` as the registry knows it, or the id of an image that no registry knows.
    """

    id: str
    digest: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """The disk on which the engine keeps images."""

    free_bytes: int
    total_bytes: int

    @property
    def lacking_bytes(self) -> int:
        """How much must go before there is enough again; 0 while it is not low."""
        reserve = min(max(RESERVE_BYTES, int(self.total_bytes * RESERVE_SHARE)), self.total_bytes // 2)
        return int(reserve * _ENOUGH) - self.free_bytes if self.free_bytes < reserve else 0


@dataclass(frozen=True, slots=True)
class Fetched:
    """An image that this node fetched; times are seconds since 1970."""

    id: str
    size_bytes: int
    fetched_at: float
    used_at: float


class Shelf(Protocol):
    """Where the images are. Faults are raised as ``NodeFault``."""

    def find(self, reference: str) -> Image | None:
        """The image, if it is there."""

    def remove(self, reference: str) -> bool:
        """Remove the name, and the image with its last name; False when something uses it, or it is not there."""


class ImageCache:
    """The record in the file ``path``; for many threads at once.

    Our images together keep within ``budget_bytes`` (None: no bound); ``room`` tells of the engine's disk, None where
    that cannot be seen. An image in use stays, whatever the bounds.
    """

    def __init__(
        self,
        path: Path,
        shelf: Shelf,
        *,
        budget_bytes: int | None = None,
        room: Callable[[], Room | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._shelf = shelf
        self._budget_bytes = budget_bytes
        self._room = room
        self._clock = clock
        self._changed = threading.Condition()
        self._evicting = False
        self._users: Counter[str] = Counter()
        self._fetched = read_record(path)

    @contextmanager
    def using(self, reference: str) -> Iterator[None]:
        """While this lasts the image is not removed, be it there already or fetched meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: not self._evicting)
            self._users[reference] += 1
        try:
            yield
        finally:
            with self._changed:
                self._users[reference] -= 1
                self._users += Counter()  # drops the zeros
            self.used(reference)

    def used(self, reference: str) -> None:
        """Note that the image is used now, if it is one of ours."""
        now = self._clock()
        with self._changed:
            known = self._fetched.get(reference)
            if known is not None and now - known.used_at > _GRAIN_SECONDS:
                self._keep({**self._fetched, reference: replace(known, used_at=now)})

    def fetched(self, reference: str, image: Image) -> None:
        """Note that this node has just fetched the image."""
        now = self._clock()
        with self._changed:
            self._keep({**self._fetched, reference: Fetched(image.id, image.size_bytes, now, now)})

    def trim(self, forget: Callable[[str], None]) -> int:
        """Remove what is too much, the least recently used first; return how many went.

        ``forget(reference)`` is called before one goes. Raises NodeFault when the engine does not answer.
        """
        self._settle()
        over = self.used_bytes - self._budget_bytes if self._budget_bytes is not None else 0
        gone = self._evict(over, "the budget for images is used up", forget) if over > 0 else 0
        room = self._room()
        if room is not None and room.lacking_bytes > 0:
            gone += self._evict(
                room.lacking_bytes, f"only {human_size(room.free_bytes)} are free on the engine's disk", forget
            )
        return gone

    def make_room(self, forget: Callable[[str], None]) -> int:
        """Remove the least recently used one, for a disk that is full now; return how many went."""
        self._settle()
        return self._evict(1, "the disk was full when an image was fetched", forget)

    @property
    def used_bytes(self) -> int:
        """The size of all images of ours; layers that they share are counted for each."""
        with self._changed:
            return sum(one.size_bytes for one in {one.id: one for one in self._fetched.values()}.values())

    @property
    def words(self) -> str:
        """How full it is: ``3 images, 1.2G of 10G``."""
        with self._changed:
            count = len(self._fetched)
        return shown(count, self.used_bytes, self._budget_bytes)

    def _settle(self) -> None:
        """Take out of the record what is gone, or is not what was fetched."""
        with self._changed:
            known = dict(self._fetched)
        for reference, one in known.items():
            there = self._shelf.find(reference)
            if there is None or there.id != one.id:
                self._drop(reference, one)

    def _evict(self, bytes_wanted: int, why: str, forget: Callable[[str], None]) -> int:
        """Remove images until so many bytes are gone, as far as there are such that may go."""
        gone = 0
        with self._changed:
            candidates = sorted(self._fetched.items(), key=lambda pair: (pair[1].used_at, pair[0]))
        for reference, one in candidates:
            if bytes_wanted <= 0:
                break
            if self._evict_one(reference, one, forget):
                _log.info(event("image_evicted", message=why, image=reference, size=human_size(one.size_bytes)))
                bytes_wanted -= one.size_bytes
                gone += 1
        return gone

    def _evict_one(self, reference: str, one: Fetched, forget: Callable[[str], None]) -> bool:
        with self._changed:
            used_ids = {known.id for name in self._users if (known := self._fetched.get(name)) is not None}
            if reference in self._users or one.id in used_ids or one.id in self._users:
                return False
            self._evicting = True
        try:
            forget(reference)
            removed = self._shelf.remove(reference)
        finally:
            with self._changed:
                self._evicting = False
                self._changed.notify_all()
        if removed:
            self._drop(reference, one)
        return removed

    def _drop(self, reference: str, one: Fetched) -> None:
        """Forget a record, unless it is another one by now."""
        with self._changed:
            known = self._fetched.get(reference)
            if known is not None and (known.id, known.fetched_at) == (one.id, one.fetched_at):
                self._keep({name: known for name, known in self._fetched.items() if name != reference})

    def _keep(self, fetched: dict[str, Fetched]) -> None:
        """A record that cannot be written costs no task: after a restart the image is taken for a foreign one."""
        self._fetched = fetched
        try:
            write_durably(self._path, json.dumps({name: asdict(one) for name, one in fetched.items()}).encode())
        except OSError as error:
            _log.error(event("images_not_recorded", message=str(error)))


def read_record(path: Path) -> dict[str, Fetched]:
    """The record of a node; empty when there is none that can be read, for then nothing is known to be ours."""
    try:
        return {name: Fetched(**one) for name, one in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _log.error(event("images_unknown", message=f"{path}: {error}"))
        return {}


def shown(count: int, size_bytes: int, budget_bytes: int | None) -> str:
    """How full a cache is, in words."""
    bound = f" of {human_size(budget_bytes)}" if budget_bytes is not None else ""
    return f"{count} {'image' if count == 1 else 'images'}, {human_size(size_bytes)}{bound}"
