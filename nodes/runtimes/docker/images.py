"""The images of a Docker Engine, and what the sentences of registries mean."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from typing import Any

from nodes.imagecache import Image, Room
from nodes.images import Progress, PullProgress
from nodes.runtimes.docker.engine import Engine
from nodes.runtimes.docker.errors import EngineError, EngineGone, NameTaken, NotThere
from tasks.errors import NodeFault

_MOST_REFERENCES = 500
_ID = "sha256:"
# Where an engine looks for images whose names tell no registry.
_HUB = ("registry-1.docker.io", 443)
_HUB_SECONDS = 5.0

# Words of engines and registries: the first group of which one occurs decides. For a name that it does not know, one
# answers "denied: repository does not exist or may require login".
_MEANINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("node_disk", ("no space left on device", "disk quota exceeded")),
    ("image_not_found", ("repository does not exist", "manifest unknown", "name unknown", "no such image")),
    (
        "image_pull",
        (
            "no such host",
            "server misbehaving",
            "connection refused",
            "network is unreachable",
            "i/o timeout",
            "timeout",
            "deadline exceeded",
            "context canceled",
            "tls",
            "x509",
            "toomanyrequests",
            "too many requests",
            "unexpected status",
            "eof",
            "connection reset",
        ),
    ),
    ("image_refused", ("denied", "unauthorized", "authentication required", "forbidden", "no basic auth")),
    ("image_not_found", ("not found", "invalid reference", "does not exist", "no matching manifest")),
)
_UNREACHABLE = ("no such host", "server misbehaving", "connection refused", "network is unreachable", "i/o timeout")


class DockerImages:
    """Finds and fetches images with an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, reference: str) -> Image | None:
        """The image, if it is there. Raises NodeFault when the engine does not answer."""
        try:
            there = self._engine.image(reference)
        except NotThere:
            return None
        except EngineError as error:
            raise NodeFault("image_not_found", f"{reference}: {error.message}") from error
        except EngineGone as error:
            raise NodeFault("runtime_error", f"the container engine does not answer: {error}") from error
        digest = digest_of(reference, there["Id"], there.get("RepoDigests") or ())
        return Image(id=there["Id"], digest=digest, size_bytes=int(there.get("Size") or 0))

    def pull(self, reference: str, progress: Progress) -> None:
        """Fetch it. NodeFault: image_not_found, image_refused, image_pull, node_disk."""
        if reference.startswith(_ID):
            raise NodeFault(
                "image_not_found", f"{reference} is not on this node, and no registry is named to fetch it from"
            )
        layers: dict[str, tuple[int, int]] = {}

        def tell(message: Mapping[str, Any]) -> None:
            detail = message.get("progressDetail") or {}
            if message.get("status") == "Downloading" and detail.get("total"):
                layers[str(message.get("id"))] = (int(detail["current"]), int(detail["total"]))
                done, total = (sum(column) for column in zip(*layers.values(), strict=True))
                progress(PullProgress(reference, done, total))

        try:
            self._engine.pull(reference, tell)
        except EngineError as error:
            raise fault_of(reference, error.message, error.status) from error
        except EngineGone as error:
            raise NodeFault("image_pull", f"{reference}: the container engine does not answer: {error}") from error

    def remove(self, reference: str) -> bool:
        """Remove the name, and the image with its last name. False: a container uses it, or it is not there."""
        try:
            self._engine.remove_image(reference)
        except (NotThere, NameTaken):
            return False
        except (EngineError, EngineGone) as error:
            raise NodeFault("runtime_error", f"the container engine did not remove {reference}: {error}") from error
        return True

    def room(self) -> Room | None:
        """The disk of the engine's own folder; None when it is not on this machine, or does not answer."""
        try:
            disk = shutil.disk_usage(str(self._engine.info().get("DockerRootDir") or "/nonexistent"))
        except (EngineError, EngineGone, OSError):
            return None
        return Room(free_bytes=disk.free, total_bytes=disk.total)

    def reachable(self) -> bool:
        """Whether the registry of names without a host can be reached; a proxy or a mirror is taken to lead there."""
        try:
            info = self._engine.info()
        except (EngineError, EngineGone):
            return True
        mirrors = (info.get("RegistryConfig") or {}).get("Mirrors")
        if mirrors or info.get("HttpsProxy") or info.get("HttpProxy"):
            return True
        try:
            with socket.create_connection(_HUB, _HUB_SECONDS):
                return True
        except OSError:
            return False

    def references(self) -> tuple[str, ...]:
        """The names of the images that are there, at most 500. Raises NodeFault."""
        try:
            there = self._engine.images()
        except (EngineError, EngineGone) as error:
            raise NodeFault("runtime_error", f"the container engine does not tell its images: {error}") from error
        names = {name for image in there for name in image.get("RepoTags") or () if not name.startswith("<none>")}
        return tuple(sorted(names))[:_MOST_REFERENCES]


def digest_of(reference: str, image_id: str, known: tuple[str, ...] | list[str]) -> str:
    """The digest under which the reference's own repository knows the image, or any does, or the image's id."""
    repository = reference.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    short = repository.removeprefix("docker.io/").removeprefix("library/")
    ours = [digest for digest in known if digest.partition("@")[0] in (repository, short)]
    return next(iter([*ours, *known]), image_id)


def fault_of(reference: str, message: str, status: int = 500) -> NodeFault:
    """Whose fault a failed pull is. What nobody can tell is the grid's own: it is tried elsewhere."""
    words = message.lower()
    kind = next((kind for kind, signs in _MEANINGS if any(sign in words for sign in signs)), None)
    if kind is None:
        kind = {400: "image_not_found", 401: "image_refused", 403: "image_refused", 404: "image_not_found"}.get(
            status, "image_pull"
        )
    if kind == "image_pull" and any(sign in words for sign in _UNREACHABLE):
        return NodeFault(kind, f"{reference} is not on this node, and its registry cannot be reached ({message})")
    return NodeFault(kind, f"{reference}: {message}")
