"""What the API shows of tasks, attempts, nodes and events; the client, the command line and the pages read it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from tasks.limits import Limits
from tasks.model import Record
from tasks.outcome import OutputFile, PhaseTimes, Usage
from tasks.states import AttemptState, NodeMode, Phase, TaskState

MOST_BULK = 1000
"""Tasks of one submit of many."""
MOST_MANY = 500
"""Tasks of one cancel or retry of many."""


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

    ``previous`` is the cursor of the page before it, of newer tasks; it is empty at the beginning. A page may have no
    tasks and yet a following one: a server looks through so many tasks for each page, and no more.
    """

    items: tuple[TaskView, ...]
    next: str = ""
    previous: str = ""


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


class NodeSampleView(Record):
    """How busy a node was in the ten minutes from ``at`` on: means over ``looks`` looks at it.

    ``cpus`` and ``memory`` are the parts (0 to 1) of what it offers that attempts had reserved, ``others`` the part of
    its processors that others than the grid used, ``running`` attempts. ``online`` and ``ready`` are the parts of the
    time in which it was heard of, and took tasks.
    """

    at: datetime
    looks: int
    online: float
    ready: float
    running: float
    cpus: float
    memory: float
    others: float


class QueueOwner(Record):
    """A user's, or a group's, part of the grid now. Processor time is in seconds, ``share`` a part (0 to 1).

    ``share`` is the greatest part of processors, memory, GPUs or slots that is held, ``rank`` the place in the order of
    serving (1 is next, None: nothing is queued). ``queued`` is exact, unless ``exact`` is False: then it is the least.
    ``next_task`` is named where the caller may see it; ``reason`` says why it does not start.
    """

    name: str
    rank: int | None = None
    queued: int = 0
    exact: bool = True
    running: int = 0
    share: float = 0.0
    weight: float = 1.0
    cpu_seconds_hour: float = 0.0
    cpu_seconds_day: float = 0.0
    next_task: str = ""
    reason: str = ""


class QueueWait(Record):
    """The oldest task of those that need the same, and why it waits; ``alike`` counts it and those behind it."""

    task: str
    name: str
    owner: str
    queued_at: datetime
    priority: int = 0
    alike: int = 1
    exact: bool = True
    can_ever_run: bool = True
    reason: str = ""


class Licence(Record):
    """A counter of the whole grid: how many there are, and how many running attempts hold."""

    name: str
    total: int
    used: int


class QueueView(Record):
    """The queue as the caller may see it: whose turn it is, who has how much, and what has waited longest.

    Owners whom the caller does not know are summed up in one with an empty name. ``whole`` is False where there is more
    in the queue than was looked at.
    """

    at: datetime
    queued: int
    exact: bool = True
    running: int
    slots: int
    owners: tuple[QueueOwner, ...] = ()
    groups: tuple[QueueOwner, ...] = ()
    waits: tuple[QueueWait, ...] = ()
    licences: tuple[Licence, ...] = ()
    whole: bool = True


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
    ``estimate_seconds`` is a guess of when it starts, from what runs now and how long the last attempts took, and
    ``estimate`` the same in words; there is none where nothing speaks for it.
    """

    task: str
    state: TaskState
    summary: str
    position: int | None = None
    queued: int | None = None
    exact: bool = True
    estimate_seconds: float | None = None
    estimate: str = ""
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


class SimilarLimit(Record):
    """What similar tasks used of one limit, in its own unit (bytes, seconds, a number): ``most`` of all of them.

    ``asked`` is what the newest was given, ``hit`` how many ran into it, ``suggested`` a limit with room to spare as a
    task may say it (empty where one ran into it), ``words`` all of it in a sentence.
    """

    limit: str
    asked: float | None = None
    most: float
    hit: int = 0
    suggested: str = ""
    words: str


class SimilarView(Record):
    """What the last ``count`` similar tasks of the caller really used; similar ``by`` the same name or program."""

    count: int
    by: str
    limits: tuple[SimilarLimit, ...] = ()


class Problem(Record):
    """One thing wrong with a task: where (a path such as ``limits.memory``, empty for the whole), what, how to mend."""

    path: str
    message: str
    hint: str = ""


class CheckView(Record):
    """What a submit would say: ``problems`` that would refuse it, none if it would be taken as things are now.

    ``missing`` are the contents that have to be uploaded before, ``limits`` those that the task would run under, and
    ``lowered`` says in words, by limit, where these are less than was asked.
    """

    problems: tuple[Problem, ...] = ()
    missing: tuple[str, ...] = ()
    limits: Limits | None = None
    lowered: dict[str, str] = {}
    similar: SimilarView | None = None


class ManyBody(Record):
    """Which tasks to cancel or to run again: those of the ``ids``, or those that fit the ``filter`` of a list.

    Of a filter at most ``MOST_MANY`` are taken at once, the newest first; ``after`` is the cursor that the answer
    before gave as ``next``. Without a state, a cancel takes those that have not ended and a retry those that failed.
    """

    ids: tuple[str, ...] = Field(default=(), max_length=MOST_MANY)
    filter: dict[str, str] | None = None
    after: str = ""
    reason: str = Field(default="", max_length=500, description="why they are cancelled")


class ManyItem(Record):
    """What became of one task: ``done``, or the ``reason`` against it; ``made`` is the new task of a retry."""

    task: str
    name: str = ""
    done: bool
    made: str = ""
    reason: str = ""


class ManyView(Record):
    """What was done and what was refused; ``next`` is set when more tasks fit the filter than were taken."""

    done: int
    refused: int
    items: tuple[ManyItem, ...]
    next: str = ""
