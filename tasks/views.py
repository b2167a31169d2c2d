"""What the API shows of tasks, attempts, nodes and events; the client, the command line and the pages read it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from tasks.model import Record
from tasks.outcome import OutputFile, PhaseTimes, Usage
from tasks.states import AttemptState, NodeMode, Phase, TaskState

MOST_BULK = 1000
"""Tasks of one submit of many."""


class TaskView(Record):
    """One task as its owner sees it. ``verdict``, ``verdict_class``, ``reason`` are empty until it is final.

    ``attempt`` and ``node`` are those of the newest attempt, ``phase`` is set while it runs, ``tried_again_at`` while
    it waits for the time of its next attempt; times are UTC.
    """

    id: str
    name: str
    owner: str
    state: TaskState
    image: str
    args: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    priority: int = 0
    verdict: str = ""
    verdict_class: str = ""
    reason: str = ""
    advice: str = ""
    exit_code: int | None = None
    attempt: str = ""
    attempts: int = 0
    node: str = ""
    phase: Phase | None = None
    cancel_requested: bool = False
    created_at: datetime
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    tried_again_at: datetime | None = None


class TaskPage(Record):
    """A page of a list, newest first; ``next`` is the cursor of the following page, empty at the end.

    A page may have no tasks and yet a following one: a server looks through so many tasks for each page, and no more.
    """

    items: tuple[TaskView, ...]
    next: str = ""


class AttemptView(Record):
    """One attempt of a task, with the reason it ended.

    ``memory_bytes`` is the memory limit that it was given; ``decision`` says why the task was, or was not, tried again.
    """

    id: str
    number: int
    node: str
    state: AttemptState
    phase: Phase | None = None
    verdict: str = ""
    verdict_class: str = ""
    reason: str = ""
    decision: str = ""
    exit_code: int | None = None
    memory_bytes: int | None = None
    image_digest: str = ""
    assigned_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    usage: Usage | None = None
    phases: PhaseTimes | None = None
    files: tuple[OutputFile, ...] = ()


class EventView(Record):
    """One line of a task's timeline; ``number`` grows over all events of the grid."""

    number: int
    task: str
    at: datetime
    kind: str
    data: dict[str, str | int | float | bool | None] = {}


class NodeStatus(Record):
    """A node as the pages and ``grid nodes`` show it; amounts are used and offered, and used by others than the grid.

    ``mode`` is what the operator lets it do, with who said so, when and why; ``drain_until`` is when a draining one
    ends what still runs there (None: never).
    """

    name: str
    online: bool
    ready: bool
    not_ready_reason: str = ""
    mode: NodeMode = NodeMode.OPEN
    mode_by: str = ""
    mode_at: datetime | None = None
    mode_reason: str = ""
    drain_until: datetime | None = None
    tags: tuple[str, ...] = ()
    cpus: float
    cpus_used: float
    memory: int
    memory_used: int
    cpus_others: float = 0.0
    memory_others: int = 0
    storage: int = 0
    storage_used: int = 0
    slots: int
    running: int
    last_seen: datetime | None = None
    version: str = ""
    enforces: tuple[str, ...] = ()
    details: dict[str, str] = {}

    @property
    def drained(self) -> bool:
        """Whether a draining node is empty, so that it may be switched off."""
        return self.mode is NodeMode.DRAINING and not self.running


class NewNode(Record):
    """A node that was added, and its token, which is shown this once."""

    name: str
    token: str


class TokenView(Record):
    """A token as it is listed; its text is never shown again. ``node`` is set for a node's token."""

    id: int
    name: str
    owner: str
    scopes: tuple[str, ...]
    node: str = ""
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class Level(StrEnum):
    """How a thing that was looked at is."""

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    FAIL = "fail"


class Finding(Record):
    """One thing that was looked at: what was found, and what to do about it if it is not right."""

    name: str
    level: Level
    detail: str
    hint: str = ""


class DoctorView(Record):
    """What the server finds when it looks at itself. ``at`` is its clock, ``version`` its own."""

    at: datetime
    version: str
    findings: tuple[Finding, ...]


class NodeReasons(Record):
    """Why a task does not start on one node now; no reasons and ``fits_now`` means that it may start at any moment."""

    node: str
    fits_now: bool
    fits_ever: bool
    reasons: tuple[str, ...] = ()


class ExplainView(Record):
    """Why a task is where it is: a summary and, while it is queued, its position and the reasons of each node.

    Of a very long queue not all is counted: then ``exact`` is False, and position and length are the least they can be.
    """

    task: str
    state: TaskState
    summary: str
    position: int | None = None
    queued: int | None = None
    exact: bool = True
    can_ever_run: bool = True
    nodes: tuple[NodeReasons, ...] = ()


class BulkTask(Record):
    """One task of a submit of many; ``spec`` and ``name`` as in ``SubmitBody``."""

    spec: dict[str, object]
    name: str = ""


class BulkBody(Record):
    """The body of a submit of many tasks, which are all made or none; ``blobs`` as in ``SubmitBody``."""

    tasks: tuple[BulkTask, ...] = Field(min_length=1, max_length=MOST_BULK)
    blobs: dict[str, str] = {}


class SubmitBody(Record):
    """The body of a submit. ``spec`` is a task JSON whose files are references or content.

    ``blobs`` holds small contents as base64 by sha256.

    ``name`` is the default name (the folder's), used when the spec has none.
    """

    spec: dict[str, object]
    blobs: dict[str, str] = {}
    name: str = ""
