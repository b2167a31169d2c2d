"""What a task left: its result, its files, its logs."""

from __future__ import annotations

import time
from typing import Annotated

from django.http import FileResponse, HttpResponse
from ninja import Path, Query, Router

from grid.core import logs
from grid.core.contents.store import get_store
from grid.core.models import OutputFile
from grid.core.people import access
from grid.core.people.tokens import Scope
from grid.core.reading import present
from grid.core.reading.hub import hub
from tasks.errors import NotFound
from tasks.result import Result
from tasks.states import TaskState
from tasks.views import TaskView
from webapp.api.answers import answer, answer_state
from webapp.api.ranges import ranged
from webapp.api.tasks import WAIT_SECONDS, TaskId
from webapp.auth import Allow, AllowLive, Request
from webapp.live import in_thread
from webapp.middleware import inert

PART_BYTES = 1024**2
MOST_PART_BYTES = 8 * 1024**2

router = Router(tags=["results"])


@router.get("/{task_id}/result", auth=Allow(Scope.READ), response={200: Result, 304: None}, by_alias=True)
def result(request: Request, task_id: TaskId) -> HttpResponse:
    """The result of a final task, with an ETag; 304 when If-None-Match names that one, 409 while it is not final."""
    return answer_state(request, present.result(access.get_task(request.auth.user, task_id)))


@router.get("/{task_id}/result/wait", auth=AllowLive(Scope.READ), response={200: Result, 202: TaskView}, by_alias=True)
async def result_when_final(
    request: Request, task_id: TaskId, timeout: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 30.0
) -> HttpResponse:
    """The result as soon as the task is final; 202 with the task as it is after ``timeout`` seconds (60 at most)."""
    deadline = time.monotonic() + min(timeout, WAIT_SECONDS)
    async with hub.subscribe([task_id]) as news:
        while True:
            final = await in_thread(access.is_final, request.auth.user, task_id)
            left = deadline - time.monotonic()
            if final or left <= 0:
                return await in_thread(_result_or_view, request, task_id)
            await news.wait(left)


def _result_or_view(request: Request, task_id: str) -> HttpResponse:
    task = access.get_task(request.auth.user, task_id)
    if TaskState(task.state).final:
        return answer(present.result(task))
    return answer(present.task_view(task), 202)


@router.get("/{task_id}/files/{path:path}", auth=Allow(Scope.READ))
def file(
    request: Request, task_id: TaskId, path: str, attempt: Annotated[int | None, Query(ge=1, le=32_767)] = None
) -> FileResponse | HttpResponse:
    """A file of the result, for saving, or the part that a Range header asks for; the ETag is its hash.

    With ``attempt`` (a number) one that this attempt brought back.
    """
    task = access.get_task(request.auth.user, task_id)
    rows = OutputFile.objects.filter(path=path)
    if attempt is None:
        row = rows.filter(attempt_id=task.attempt_id).first()
    else:
        row = rows.filter(attempt__task=task, attempt__number=attempt).first()
    if row is None:
        raise NotFound(f'the task {task_id} brought back no file "{path}"')
    return ranged(request, get_store().open(row.blob_id), path, row.blob_id)


@router.get("/{task_id}/logs/{stream}", auth=AllowLive(Scope.READ))
async def log(
    request: Request,
    task_id: TaskId,
    stream: Annotated[str, Path(pattern="^(stdout|stderr)$")],
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1)] = PART_BYTES,
    wait: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0,
) -> HttpResponse:
    """Captured output from ``offset`` on; ``wait`` seconds (60 at most) are given to it to come.

    Headers: Grid-Log-Size (bytes known), Grid-Log-Complete (no more will come), Grid-Log-Attempt (a task that is tried
    again begins a new log).
    """
    deadline = time.monotonic() + min(wait, WAIT_SECONDS)
    async with hub.subscribe([task_id]) as news:
        while True:
            response = await in_thread(_part, request, task_id, stream, offset, min(limit, MOST_PART_BYTES))
            left = deadline - time.monotonic()
            if response.content or left <= 0 or response.headers["Grid-Log-Complete"] == "true":
                return response
            # A log that grows is no event of the task: look at the file, it is a cheap look.
            await news.wait(min(left, LOOK_SECONDS))


LOOK_SECONDS = 0.3


def _part(request: Request, task_id: str, stream: str, offset: int, limit: int) -> HttpResponse:
    task = access.get_task(request.auth.user, task_id)
    final = TaskState(task.state).final
    part = logs.LogPart(b"", 0, final) if task.attempt is None else logs.read(task.attempt, stream, offset, limit)
    there = offset + len(part.data)
    response = HttpResponse(part.data, content_type="application/octet-stream")
    response.headers["Grid-Log-Size"] = str(part.size)
    # An attempt that failed may be followed by another one, with a log of its own.
    response.headers["Grid-Log-Complete"] = "true" if part.complete and final and there >= part.size else "false"
    response.headers["Grid-Log-Attempt"] = task.attempt_id or ""
    response.headers["Content-Disposition"] = f'attachment; filename="{task.id}.{stream}"'
    return inert(response, "no-store")
