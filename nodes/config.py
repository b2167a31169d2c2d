"""What a node is told when it starts: where its server is, who it is, where it may write and how much it offers."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tasks.errors import GridError
from tasks.names import node_name_fault
from tasks.units import parse_size

DEFAULT_SERVER = "http://127.0.0.1:8080"
IMAGE_RECORD = "images.json"


class ConfigError(GridError):
    """A setting of the node is missing or wrong; the text says which, and what to write."""


class OnStop(StrEnum):
    """What becomes of running attempts when the node is asked to end.

    ``drain``: it waits until they have ended, and hands back what takes too long. ``keep``: their containers go on,
    and the next start of the node goes on with them. ``return``: they are ended and handed back at once.
    """

    DRAIN = "drain"
    KEEP = "keep"
    RETURN = "return"


class Share(StrEnum):
    """How much of the machine is the grid's: ``all`` that the node offers, or what others leave ``spare``."""

    ALL = "all"
    SPARE = "spare"


# How long running attempts may go on after a request to end, unless told otherwise.
_SHUTDOWN_SECONDS = {OnStop.DRAIN: 3600.0, OnStop.KEEP: 5.0, OnStop.RETURN: 0.0}


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The settings of one node. ``cpus`` and ``memory_bytes`` cap what it offers; None offers all that the machine has.

    ``slots`` is the number of attempts at one time, None lets the node choose. ``shutdown_seconds`` is how long running
    attempts may go on after a request to end (None: as ``on_stop`` has it); ``on_stop`` is what happens to them then.
    ``cache_bytes`` bounds the cache of input files, ``image_cache_bytes`` the images that the node fetched for tasks
    (None: only a low disk does). ``share`` tells whether what others use of the machine is taken off what is offered.
    ``images`` are the patterns of images that may run here (``registry.lab/*``, ``python:3.*``), None allows all;
    without ``pull`` none is fetched. ``observer`` is the socket of the machine's observer, if it has one.
    """

    server: str
    name: str
    directory: Path
    token: str = field(repr=False)
    slots: int | None = None
    tags: tuple[str, ...] = ()
    cpus: float | None = None
    memory_bytes: int | None = None
    on_stop: OnStop = OnStop.KEEP
    shutdown_seconds: float | None = None
    cache_bytes: int = 2 * 1024**3
    image_cache_bytes: int | None = None
    share: Share = Share.ALL
    images: tuple[str, ...] | None = None
    pull: bool = True
    observer: Path | None = None

    def __post_init__(self) -> None:
        if fault := node_name_fault(self.name):
            raise ConfigError(fault)
        if not self.server.startswith(("http://", "https://")):
            raise ConfigError(f'"{self.server}" is not the address of a server; write http://host:port or https://host')
        if self.slots is not None and self.slots < 1:
            raise ConfigError("a node needs at least 1 slot")
        if self.shutdown_seconds is not None and self.shutdown_seconds < 0:
            raise ConfigError("--shutdown-seconds cannot be less than 0")
        if self.cpus is not None and self.cpus <= 0:
            raise ConfigError("a node cannot offer fewer cpus than some; leave --cpus out to offer all")

    @property
    def patience_seconds(self) -> float:
        """How long running attempts may go on after a request to end."""
        return _SHUTDOWN_SECONDS[self.on_stop] if self.shutdown_seconds is None else self.shutdown_seconds

    @property
    def home(self) -> str:
        """Machine and folder: where exactly this agent is at work."""
        return f"{socket.gethostname()}:{self.directory}"

    @property
    def identity(self) -> str:
        """Tells its containers and groups apart from those of another grid's node of this name on the same machine."""
        return f"{self.name}-{hashlib.sha256(self.home.encode()).hexdigest()[:8]}"

    @property
    def attempts(self) -> Path:
        """The folder with one folder for each attempt that is here."""
        return self.directory / "attempts"

    @property
    def workspaces(self) -> Path:
        """The folder with the workspace of each attempt that is here."""
        return self.directory / "workspaces"

    @property
    def blobs(self) -> Path:
        """The folder of the blob cache."""
        return self.directory / "blobs"

    @property
    def image_record(self) -> Path:
        """The file that tells which images this node fetched."""
        return self.directory / IMAGE_RECORD

    @property
    def spool(self) -> Path:
        """The folder of outcomes that the server has not answered yet."""
        return self.directory / "spool"


def read_token(given: str | None, environment: Mapping[str, str]) -> str:
    """The node's token: as given, or from ``GRID_TOKEN``, or from the file that ``GRID_TOKEN_FILE`` names.

    Raises ConfigError when there is none.
    """
    token = given or environment.get("GRID_TOKEN", "")
    if not token and (path := environment.get("GRID_TOKEN_FILE")):
        try:
            token = Path(path).read_text().strip()
        except OSError as error:
            raise ConfigError(f"GRID_TOKEN_FILE: cannot read {path}: {error.strerror}") from error
    if not token:
        raise ConfigError("no token; give --token, GRID_TOKEN or GRID_TOKEN_FILE (the server makes one for each node)")
    return token


def read_size(text: str | None) -> int | None:
    """Bytes of ``"16G"``, or None for nothing. Raises ConfigError."""
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def default_name() -> str:
    """The machine's own name, as far as it can serve as the name of a node."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname().split(".")[0]).lstrip("-._")[:63] or "node"


def default_directory(name: str) -> Path:
    """Where a node keeps its things unless told otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/celery-grid/nodes") / name
    return Path.home() / ".local" / "share" / "celery-grid" / "nodes" / name
