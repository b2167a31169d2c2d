"""The records as the views that the API shows."""

from __future__ import annotations

from grid.core.models import Attempt, Event, Node, OutputFile, Task
from tasks import result as results
from tasks.errors import Conflict
from tasks.order import Facts
from tasks.outcome import Outcome, PhaseTimes, Usage
from tasks.outcome import OutputFile as ReportedFile
from tasks.result import Result, RunFacts, TaskFacts
from tasks.spec import parse_spec
from tasks.states import AttemptState, Phase, TaskState
from tasks.verdicts import Judgement, Verdict, VerdictClass
from tasks.views import AttemptView, EventView, TaskView


def task_view(task: Task) -> TaskView:
    """A task as its owner sees it."""
    attempt = task.attempt
    running = task.state == TaskState.RUNNING and attempt is not None
    return TaskView(
        id=task.id,
        name=task.name,
        owner=task.owner.username,
        state=TaskState(task.state),
        image=task.spec.get("image", ""),
        args=tuple(task.spec.get("args", ())),
        labels=task.labels,
        priority=task.priority,
        verdict=task.verdict,
        verdict_class=task.verdict_class,
        reason=task.reason,
        advice=task.advice,
        exit_code=task.exit_code,
        attempt=task.attempt_id or "",
        attempts=task.attempts_made,
        node=task.node_name,
        phase=Phase(attempt.phase) if running and attempt and attempt.phase else None,
        cancel_requested=task.cancel_requested_at is not None,
        created_at=task.created_at,
        queued_at=task.queued_at,
        started_at=task.started_at,
        finished_at=task.finished_at,
        tried_again_at=task.not_before if task.state == TaskState.WAITING else None,
    )


def attempt_view(attempt: Attempt) -> AttemptView:
    """One attempt with its files and usage."""
    report = attempt.report or {}
    return AttemptView(
        id=attempt.id,
        number=attempt.number,
        node=attempt.node.name,
        state=AttemptState(attempt.state),
        phase=Phase(attempt.phase) if attempt.phase and attempt.state == AttemptState.RUNNING else None,
        verdict=attempt.verdict,
        verdict_class=attempt.verdict_class,
        reason=attempt.reason,
        decision=attempt.decision,
        exit_code=attempt.exit_code,
        memory_bytes=attempt.memory_bytes,
        image_digest=attempt.image_digest,
        assigned_at=attempt.assigned_at,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        usage=Usage.model_validate(report["usage"]) if report.get("usage") else None,
        phases=PhaseTimes.model_validate(report["phases"]) if report.get("phases") else None,
        files=_files(attempt),
    )


def _files(attempt: Attempt) -> tuple[ReportedFile, ...]:
    rows = OutputFile.objects.filter(attempt=attempt).select_related("blob").order_by("path")
    return tuple(
        ReportedFile(path=row.path, sha256=row.blob_id, size=row.blob.size, executable=row.executable) for row in rows
    )


def event_view(event: Event) -> EventView:
    """One line of a timeline."""
    return EventView(number=event.id, task=event.task_id, at=event.at, kind=event.kind, data=event.data)


def result(task: Task) -> Result:
    """The result of a task; raises Conflict while it is not final."""
    if not TaskState(task.state).final or task.finished_at is None:
        raise Conflict(f"the task {task.id} is {task.state}; it has no result yet")
    facts = TaskFacts(
        id=task.id,
        spec=parse_spec(task.spec, default_name=task.name),
        queued_at=task.queued_at or task.created_at,
        finished_at=task.finished_at,
    )
    judgement = Judgement(Verdict(task.verdict), VerdictClass(task.verdict_class), task.reason, task.advice)
    return results.build_result(facts, _run(task), judgement)


def _run(task: Task) -> RunFacts | None:
    attempt = task.attempt
    if attempt is None:
        return None
    outcome = None
    if attempt.report:
        outcome = Outcome.model_validate(
            {**attempt.report, "attempt": attempt.id, "token": "", "files": _files(attempt)}
        )
    return RunFacts(
        id=attempt.id,
        number=attempt.number,
        node=attempt.node.name,
        tags=_tags(attempt.node),
        started_at=attempt.started_at,
        outcome=outcome,
    )


def _tags(node: Node) -> tuple[str, ...]:
    return Facts.model_validate(node.facts).tags if node.facts else ()


def timeline(task: Task, since: int = 0) -> list[EventView]:
    """The events of a task, oldest first."""
    return [event_view(event) for event in Event.objects.filter(task=task, id__gt=since).order_by("id")]
