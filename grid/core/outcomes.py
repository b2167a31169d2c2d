"""Accept the outcome of an attempt: judge it, keep its files, end the attempt. All or nothing."""

from __future__ import annotations

import base64
from datetime import datetime

from django.db import transaction

from grid.core import logs, nodes
from grid.core.contents import blobs
from grid.core.ending import judged
from grid.core.models import Attempt, Node, OutputFile
from grid.core.rows import insert
from tasks.errors import Conflict, Fault, SpecError, Stale
from tasks.outcome import Outcome
from tasks.states import StopCause
from tasks.verdicts import Judgement, judge


class MissingBlobs(Conflict):
    """The outcome names contents that the server does not have; the node has to upload them and report again."""

    def __init__(self, missing: list[str]) -> None:
        self.missing = missing
        super().__init__(f"{len(missing)} contents are missing; upload them and report again")


def accept(node: Node, outcome: Outcome, now: datetime) -> None:
    """Take the outcome of a running attempt of this node.

    Raises Stale when the attempt has ended before or is not the node's, MissingBlobs when files have to come first.
    """
    attempt = nodes.own_attempt(node, outcome.attempt, outcome.token)
    owner_id = attempt.task.owner_id
    inline = [blobs.store([_decoded(text)], sha256, None, now) for sha256, text in outcome.inline.items()]
    wanted = {file.sha256 for file in outcome.files} - set(outcome.inline)
    missing = sorted(wanted - set(blobs.relied_on(owner_id, wanted, now))) if wanted else []
    if missing:
        raise MissingBlobs(missing)
    _keep_logs(attempt, outcome)
    judgement = _judge(attempt, outcome)
    with transaction.atomic():
        if not judged(attempt, judgement, _facts(outcome), now):
            raise Stale(f"the attempt {attempt.id} has ended before")
        blobs.note(owner_id, inline, now)
        insert(
            OutputFile(attempt=attempt, path=file.path, blob_id=file.sha256, executable=file.executable)
            for file in outcome.files
        )


def _judge(attempt: Attempt, outcome: Outcome) -> Judgement:
    evidence = outcome.evidence
    if evidence.stopped is StopCause.CANCELLED and attempt.task.cancel_requested_at is not None:
        words = attempt.task.cancel_by + (f": {attempt.task.cancel_reason}" if attempt.task.cancel_reason else "")
        evidence = evidence.model_copy(update={"stop_reason": f"by {words}"})
    return judge(evidence, outcome.usage, outcome.limits, attempt.task.spec.get("args", ()))


def _facts(outcome: Outcome) -> dict[str, object]:
    report = outcome.model_dump(mode="json", exclude={"token", "inline", "log_tails", "files", "attempt"})
    return {"exit_code": outcome.evidence.exit_code, "image_digest": outcome.image_digest[:200], "report": report}


def _keep_logs(attempt: Attempt, outcome: Outcome) -> None:
    for stream, tail in outcome.log_tails.items():
        logs.append(attempt.id, stream, tail.offset, _decoded(tail.data))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error is one; what is not ASCII is another
        raise SpecError([Fault("inline", f"is not base64: {error}")]) from error
