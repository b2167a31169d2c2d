"""The server's side of its talk with nodes: joining, heartbeats, orders, files and logs of their own attempts."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import BinaryIO

from grid.core import logs, offers, records, secretbox, snapshot, unread, wake
from grid.core.broker import logins
from grid.core.conf import conf
from grid.core.contents import blobs
from grid.core.contents.store import Stored, get_store
from grid.core.ending import lost
from grid.core.models import Attempt, InputFile, Node, Secret, Task
from tasks.errors import Conflict, NotFound, Stale
from tasks.limits import LIMIT_NAMES, Limits
from tasks.order import (
    AttemptPulse,
    CancelOrder,
    Facts,
    Heartbeat,
    HeartbeatReply,
    Hello,
    Order,
    StagedFile,
    Welcome,
)
from tasks.placement import Lease
from tasks.spec import parse_spec
from tasks.states import AttemptState, NodeMode, Phase
from tasks.views import NodeStatus

INLINE_FILE_BYTES = 64 * 1024
INLINE_BYTES = 512 * 1024
NEVER_JOINED = {"capacity": {"cpus": 0, "memory": 0, "slots": 0}}


def hello(node: Node, said: Hello, now: datetime, key: str = "") -> Welcome:
    """A node's agent has started. Attempts of its earlier sessions that it no longer has are lost and tried again.

    ``key`` is the hash of the token it came with; by it the node is given a user of its own on the broker.

    Raises Conflict while another agent is alive under this name.
    """
    _refuse_double(node, said, now)
    Node.objects.filter(pk=node.pk).update(
        session=said.session,
        home=said.home[:500],
        facts=said.facts.model_dump(mode="json"),
        ready=True,
        not_ready_reason="",
        foreign_cpus=0.0,
        foreign_memory=0,
        last_seen=now,
        lease_until=now + timedelta(seconds=conf().lease_seconds),
    )
    held = Attempt.objects.filter(node=node, state=AttemptState.RUNNING, id__in=said.adopted)
    held.update(session=said.session, lease_until=now + timedelta(seconds=conf().lease_seconds))
    kept = set(held.values_list("id", flat=True))
    gone = Attempt.objects.filter(node=node, state=AttemptState.RUNNING).exclude(id__in=kept)
    for attempt in gone.select_related("task", "node"):
        lost(attempt, f"node {node.name} was restarted and its container was gone", now)
    offers.forget()
    wake.dispatcher()
    return Welcome(
        node=node.name,
        broker_url=logins.url_for(node, key),
        queue=node.queue,
        lease_seconds=conf().lease_seconds,
        heartbeat_seconds=conf().heartbeat,
        drop=tuple(one for one in said.adopted if one not in kept),
    )


def _refuse_double(node: Node, said: Hello, now: datetime) -> None:
    elsewhere = node.home and said.home and node.home != said.home
    if elsewhere and snapshot.online(node, now) and node.session != said.session:
        raise Conflict(f"node {node.name} is at work at {node.home}; give this one another name and token")


def heartbeat(node: Node, beat: Heartbeat, now: datetime) -> HeartbeatReply:
    """A node lives: renew its leases, and tell it what to end. Raises Conflict when its name was taken over."""
    until = now + timedelta(seconds=conf().lease_seconds)
    fields = {
        "last_seen": now,
        "lease_until": until,
        "ready": beat.ready,
        "not_ready_reason": beat.not_ready_reason[:500],
        "foreign_cpus": beat.foreign.cpus,
        "foreign_memory": beat.foreign.memory,
    }
    news = {name: value for name in ("images", "registry", "details") if (value := getattr(beat, name)) is not None}
    if news:
        fields["facts"] = {**node.facts, **news}
    if not Node.objects.filter(pk=node.pk, session=beat.session).update(**fields):
        if not node.session:
            return HeartbeatReply(hello=True)
        raise Conflict(f"another agent has taken over the name {node.name}")
    if news:
        offers.forget()
    calmer = beat.foreign.cpus < node.foreign_cpus or beat.foreign.memory < node.foreign_memory
    if (beat.ready, "") != (node.ready, beat.not_ready_reason) or calmer or not snapshot.online(node, now):
        wake.dispatcher()
    waiting = unread.of(node, now) if beat.ready else ()
    if not beat.attempts:
        return HeartbeatReply(waiting=waiting)
    return _renew(node, beat, until, now).model_copy(update={"waiting": waiting})


def _renew(node: Node, beat: Heartbeat, until: datetime, now: datetime) -> HeartbeatReply:
    pulses = {pulse.attempt: pulse for pulse in beat.attempts}
    rows = Attempt.objects.filter(id__in=pulses, node=node, session=beat.session, state=AttemptState.RUNNING)
    alive = {one.id: one for one in rows.select_related("task") if one.token == pulses[one.id].token}
    Attempt.objects.filter(id__in=alive, state=AttemptState.RUNNING).update(lease_until=until)
    for attempt_id, attempt in alive.items():
        _note_phase(attempt, pulses[attempt_id], now)
    return HeartbeatReply(
        hand_back=_to_hand_back(node, alive, now),
        cancel=tuple(
            CancelOrder(attempt=one.id, reason=records.cancel_judgement(one.task).reason)
            for one in alive.values()
            if one.task.cancel_requested_at is not None
        ),
        stale=tuple(one for one in pulses if one not in alive),
    )


def _to_hand_back(node: Node, alive: Iterable[str], now: datetime) -> tuple[CancelOrder, ...]:
    """What a draining node is to end, once its time is over."""
    if node.mode != NodeMode.DRAINING or node.drain_until is None or node.drain_until > now:
        return ()
    reason = snapshot.mode_words(node)
    return tuple(CancelOrder(attempt=attempt, reason=reason) for attempt in alive)


def _note_phase(attempt: Attempt, pulse: AttemptPulse, now: datetime) -> None:
    if attempt.phase != pulse.phase:
        records.set_phase(attempt, pulse.phase, phase_deadline(attempt, pulse.phase, now), now)


def phase_deadline(attempt: Attempt, phase: Phase, now: datetime) -> datetime:
    """When the server gives up on a phase. The heartbeat tells of it late, so a heartbeat's time is added."""
    settings = conf()
    if phase is Phase.EXECUTING:
        limit = attempt.task.limits.get("time")
        seconds = limit + settings.run_grace_seconds if limit else 10 * 365 * 86400.0
    else:
        seconds = settings.staging_seconds if phase is Phase.STAGING else settings.upload_seconds
    return now + timedelta(seconds=seconds + settings.heartbeat)


def report_phase(node: Node, attempt_id: str, token: str, phase: Phase, now: datetime) -> None:
    """A running attempt is in another phase; raises Stale when it is not the caller's."""
    attempt = own_attempt(node, attempt_id, token)
    records.set_phase(attempt, phase, phase_deadline(attempt, phase, now), now)


def take(node: Node, attempt_id: str, session: str, nonce: str, now: datetime) -> Order:
    """A node takes an attempt up and is told all about it; raises Stale when it may not (any more).

    The same session may ask again (its answer was lost) and gets the same order.
    """
    attempt = Attempt.objects.select_related("task").filter(id=attempt_id, node=node, nonce=nonce).first()
    if attempt is None or node.session != session:
        raise Stale(f"the attempt {attempt_id} is not for this session of node {node.name}")
    attempt.node = node
    if not records.start(attempt, session, now, conf().lease_seconds, conf().staging_seconds):
        attempt.refresh_from_db()
        if attempt.state != AttemptState.RUNNING or attempt.session != session:
            raise Stale(f"the attempt {attempt_id} was taken up or ended before")
    return _order(attempt, node)


def _order(attempt: Attempt, node: Node) -> Order:
    task = attempt.task
    spec = parse_spec(task.spec, default_name=task.name)
    limits = Limits.model_validate(task.limits)
    enforced = set(node.facts.get("enforces", ())) | {"gpus", "gpu_memory"}
    inputs = list(InputFile.objects.filter(task=task).select_related("blob")) if task.spec.get("files") else []
    return Order(
        attempt=attempt.id,
        task=task.id,
        number=attempt.number,
        token=attempt.token,
        spec=spec,
        limits=limits,
        not_enforced=tuple(name for name in LIMIT_NAMES if getattr(limits, name) is not None and name not in enforced),
        files=tuple(
            StagedFile(path=one.path, sha256=one.blob_id, size=one.blob.size, executable=one.executable)
            for one in inputs
        ),
        inline=_inline({one.blob_id: one.blob.size for one in inputs}),
        secrets=_secrets(task),
        max_file_bytes=conf().max_blob_bytes,
    )


def _inline(sizes: dict[str, int]) -> dict[str, str]:
    """The small files themselves, so that a small task costs one request."""
    found: dict[str, str] = {}
    left = INLINE_BYTES
    for sha256, size in sizes.items():
        if size <= min(INLINE_FILE_BYTES, left) and get_store().exists(sha256):
            with get_store().open(sha256) as file:
                found[sha256] = base64.b64encode(file.read()).decode()
            left -= size
    return found


def _secrets(task: Task) -> dict[str, str]:
    names = task.spec.get("secrets", ())
    if not names:
        return {}
    rows = Secret.objects.filter(owner_id=task.owner_id, name__in=names)
    return {row.name: secretbox.unseal(bytes(row.value)) for row in rows}


def own_attempt(node: Node, attempt_id: str, token: str) -> Attempt:
    """The running attempt of a node; raises Stale when it is not, or no longer, the node's."""
    attempt = Attempt.objects.select_related("task").filter(id=attempt_id, node=node, token=token).first()
    if attempt is None or attempt.state != AttemptState.RUNNING:
        raise Stale(f"the attempt {attempt_id} is not this node's any more")
    attempt.node = node
    return attempt


def attempt_blob(node: Node, attempt_id: str, token: str, sha256: str) -> BinaryIO:
    """An input file of the node's own attempt; raises Stale, NotFound."""
    attempt = own_attempt(node, attempt_id, token)
    if not InputFile.objects.filter(task_id=attempt.task_id, blob_id=sha256).exists():
        raise NotFound(f"the content {sha256} is no input of this task")
    return get_store().open(sha256)


def upload_blob(node: Node, attempt_id: str, token: str, sha256: str, chunks: Iterable[bytes], now: datetime) -> Stored:
    """Store an output file of the node's own attempt for the task's owner. Raises Stale, SpecError, TooLarge."""
    attempt = own_attempt(node, attempt_id, token)
    return blobs.keep(attempt.task.owner_id, chunks, sha256, conf().max_blob_bytes, now=now)


def append_log(node: Node, attempt_id: str, token: str, stream: str, offset: int, data: bytes) -> int:
    """Add to a live log; return its size. Raises Stale, Conflict on a gap."""
    own_attempt(node, attempt_id, token)
    return logs.append(attempt_id, stream, offset, data)


def status(now: datetime) -> list[NodeStatus]:
    """All nodes with what they offer and what is in use, by name; those that have not joined yet offer nothing."""
    views = {view.name: view for view in snapshot.nodes(now, conf().run_grace_seconds)}
    rows = Node.objects.filter(removed_at=None).order_by("name")
    return [_status(node, now, views[node.name].leases if node.name in views else ()) for node in rows]


def _status(node: Node, now: datetime, leases: tuple[Lease, ...]) -> NodeStatus:
    facts = Facts.model_validate(node.facts or NEVER_JOINED)
    reason = snapshot.not_ready_reason(node, now)
    return NodeStatus(
        name=node.name,
        online=snapshot.online(node, now),
        ready=not reason,
        not_ready_reason=reason,
        mode=NodeMode(node.mode),
        mode_by=node.mode_by,
        mode_at=node.mode_at,
        mode_reason=node.mode_reason,
        drain_until=node.drain_until,
        tags=facts.tags,
        cpus=facts.capacity.cpus,
        cpus_used=round(sum(lease.amounts.cpus for lease in leases), 3),
        memory=facts.capacity.memory,
        memory_used=sum(lease.amounts.memory for lease in leases),
        storage=facts.capacity.storage,
        storage_used=sum(lease.amounts.storage for lease in leases),
        cpus_others=node.foreign_cpus,
        memory_others=node.foreign_memory,
        slots=facts.capacity.slots,
        running=len(leases),
        last_seen=node.last_seen,
        version=facts.version,
        enforces=facts.enforces,
        details=facts.details,
    )
