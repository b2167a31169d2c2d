"""The messages between a node and the server, apart from the outcome."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from tasks.limits import Limits
from tasks.model import Record
from tasks.spec import TaskSpec
from tasks.states import Phase

Session = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z_.-]+$")]
"""The word by which one start of an agent is known."""


class StagedFile(Record):
    """A file to put into the workspace: ``path`` is relative to the task folder, the content is the blob ``sha256``."""

    path: str
    sha256: str
    size: int
    executable: bool = False


class Order(Record):
    """All that a node is told of an attempt when it takes it up; ``token`` must come with every later word about it.

    ``limits`` are the effective ones (min of task, user, server). ``inline`` holds small blobs as base64 by sha256.
    ``max_file_bytes`` is what the server takes of one file that comes back.
    """

    attempt: str
    task: str
    number: int
    token: str
    spec: TaskSpec
    limits: Limits
    not_enforced: tuple[str, ...] = ()
    files: tuple[StagedFile, ...] = ()
    inline: dict[str, str] = {}
    secrets: dict[str, str] = {}
    max_file_bytes: int | None = None


class LoneOrder(Record):
    """An order that is run beside any grid: ``contents`` are the files of its blobs, by sha256, on this machine."""

    order: Order
    contents: dict[str, str] = {}


class Capacity(Record):
    """What a node offers to all its attempts together."""

    cpus: float
    memory: int
    swap: int = 0
    pids: int = 32768
    storage: int = 0
    gpus: int = 0
    gpu_memory: int = 0
    slots: int = 1


class Foreign(Record):
    """What others use of what a node offers: processes of the machine that are not the grid's."""

    cpus: float = 0.0
    memory: int = 0


class Facts(Record):
    """What a node says of itself when it joins.

    ``enforces`` names the limits that it can hold a task to; ``runtimes`` the kinds of runtime that it offers.
    ``images`` are references of images that are there (at most 500), ``registry`` is True when others can be pulled.
    """

    tags: tuple[str, ...] = ()
    capacity: Capacity
    enforces: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ("docker",)
    images: tuple[str, ...] = ()
    registry: bool = True
    version: str = ""
    details: dict[str, str] = {}


class Hello(Record):
    """A node joins. ``session`` is new at every start of the agent, ``home`` (machine and folder) stays: a second agent
    with the same name at another home is refused while the first is alive.

    ``adopted`` names the attempts whose containers the agent found and would like to go on with.
    """

    session: Session
    home: str = ""
    facts: Facts
    adopted: tuple[str, ...] = ()


class Welcome(Record):
    """The server's answer: what a node needs to work. ``drop`` names the ``adopted`` that are not its any more."""

    node: str
    broker_url: str
    queue: str
    lease_seconds: float
    heartbeat_seconds: float
    drop: tuple[str, ...] = ()


class AttemptPulse(Record):
    """One running attempt in a heartbeat."""

    attempt: str
    token: str
    phase: Phase


class Heartbeat(Record):
    """A node lives, and holds these attempts; this renews their leases.

    ``images``, ``registry`` and ``details`` (see Facts) are None when unchanged. ``foreign`` stays zero on a node that
    is the grid's own.
    """

    session: Session
    attempts: tuple[AttemptPulse, ...] = ()
    ready: bool = True
    not_ready_reason: str = ""
    images: tuple[str, ...] | None = None
    registry: bool | None = None
    details: dict[str, str] | None = None
    foreign: Foreign = Foreign()


class CancelOrder(Record):
    """The server wants an attempt ended."""

    attempt: str
    reason: str


class WaitingOrder(Record):
    """An order that waits for its node: what the broker's message says of it."""

    attempt: str
    nonce: str


class HeartbeatReply(Record):
    """``cancel``: end these and report. ``stale``: end these, report nothing. ``hello``: say hello again.

    ``hand_back``: end these and report them as handed back, for they are to be tried elsewhere. ``waiting``: take these
    up, for their messages were sent long ago and the node seems not to have read them.
    """

    waiting: tuple[WaitingOrder, ...] = ()
    cancel: tuple[CancelOrder, ...] = ()
    hand_back: tuple[CancelOrder, ...] = ()
    stale: tuple[str, ...] = ()
    hello: bool = False
