"""The mirror for Celery's tools: one row of django-celery-results for each ended attempt, its id being the attempt's.

It is written in the transaction that ends the attempt and never read by the grid; the record itself is the attempt.
"""

from __future__ import annotations

import json
from datetime import datetime

from django_celery_results.models import TaskResult

from grid.core.models import Attempt
from grid.core.rows import insert
from tasks.verdicts import Judgement, VerdictClass

_CELERY_STATES = {VerdictClass.SUCCESS: "SUCCESS", VerdictClass.CANCELLED: "REVOKED"}


def write(attempt: Attempt, judgement: Judgement, now: datetime) -> None:
    """Write the attempt's row."""
    text = {"verdict": judgement.verdict, "reason": judgement.reason, "task": attempt.task_id}
    row = TaskResult(
        task_id=attempt.id,
        task_name=attempt.task.name[:255],
        worker=attempt.node.name[:100],
        status=_CELERY_STATES.get(judgement.verdict_class, "FAILURE"),
        result=json.dumps(text),
        task_args=json.dumps([attempt.id]),
        content_type="application/json",
        content_encoding="utf-8",
        date_started=attempt.started_at,
        date_created=now,
        date_done=now,
    )
    # One statement; the manager of the package takes four. An attempt ends once, so there is no row yet.
    insert([row])
