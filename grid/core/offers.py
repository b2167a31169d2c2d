"""What the nodes of this grid could ever run, remembered for a moment, because every submit asks for it."""

from __future__ import annotations

import difflib
import threading
import time
from dataclasses import dataclass

from grid.core import snapshot
from grid.core.conf import conf
from grid.core.models import Node
from tasks.errors import Fault
from tasks.order import Facts
from tasks.placement import Demand, NodeView, QueuedTask, explain

REMEMBER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Offers:
    """The nodes without what runs on them, the images they have, and whether some node can fetch others."""

    nodes: tuple[NodeView, ...]
    images: frozenset[str]
    can_pull: bool

    def never_runs(self, demand: Demand) -> tuple[str, ...]:
        """Why no node could ever run this demand; empty when one could."""
        found = explain(demand, QueuedTask("new", 0, 0.0), self.nodes, conf().licences, 0.0)
        if found.can_ever_run:
            return ()
        return (*found.grid_reasons, *(f"{one.node}: {reason}" for one in found.per_node for reason in one.reasons))

    def most_memory(self, demand: Demand) -> int:
        """The most memory that a task of this demand could have on some node, were it empty; 0 without such a node."""
        found = explain(demand, QueuedTask("new", 0, 0.0), self.nodes, conf().licences, 0.0)
        able = {one.node for one in found.per_node if one.fits_ever}
        return max((node.capacity.memory for node in self.nodes if node.name in able), default=0)

    def image_fault(self, image: str) -> Fault | None:
        """An image that no node has is a fault when no node can fetch it; else the node that tries will tell."""
        if self.can_pull or "@" in image or _names_its_registry(image):
            return None
        short = image.removeprefix("docker.io/").removeprefix("library/")
        if self.images & {image, short, f"{short}:latest"}:
            return None
        near = difflib.get_close_matches(short, self.images, n=1, cutoff=0.4)
        hint = f'did you mean "{near[0]}"?' if near else "load it on the nodes, or ask the operator"
        return Fault("image", f'no node has the image "{image}" and none can pull it', hint)


def _names_its_registry(image: str) -> bool:
    """``host:port/name``, ``host.name/name``: nodes have only tried whether the common registry can be reached."""
    host, slash, _ = image.removeprefix("docker.io/").partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost")


_lock = threading.Lock()
_remembered: tuple[float, Offers | None] = (float("-inf"), None)


def current() -> Offers | None:
    """The offers of all nodes that ever said hello; None while there is no node, and so nothing to compare with."""
    global _remembered
    with _lock:
        seen, offers = _remembered
        if time.monotonic() - seen > REMEMBER_SECONDS:
            offers = _look()
            _remembered = (time.monotonic(), offers)
        return offers


def forget() -> None:
    """Look again at the next question; a node's hello calls it."""
    global _remembered
    with _lock:
        _remembered = (float("-inf"), None)


def _look() -> Offers | None:
    rows = [node for node in Node.objects.filter(removed_at=None).order_by("name") if node.facts]
    if not rows:
        return None
    facts = [Facts.model_validate(node.facts) for node in rows]
    views = (
        snapshot.offer(node.name, one, ready=True, reason="", leases=()) for node, one in zip(rows, facts, strict=True)
    )
    return Offers(
        nodes=tuple(views),
        images=frozenset(image for one in facts for image in one.images),
        can_pull=any(one.registry for one in facts),
    )
