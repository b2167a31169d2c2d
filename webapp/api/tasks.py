"""Tasks: submit, look, wait, cancel, remove."""

from __future__ import annotations

import base64
import time
from typing import Annotated

from django.http import HttpResponse
from django.utils import timezone
from ninja import Header, Path, Query, Router
from pydantic import Field

from grid.core import bulk, checking, intake, records
from grid.core.people import access
from grid.core.people.tokens import Scope
from grid.core.reading import explain, lists, present
from grid.core.reading.hub import hub
from grid.core.upkeep import removal
from tasks.errors import Conflict, Fault, SpecError, TooLarge
from tasks.model import Record
from tasks.states import TaskState
from tasks.views import (
    AttemptView,
    BulkBody,
    CheckView,
    EventView,
    ExplainView,
    SubmitBody,
    TaskPage,
    TaskView,
)
from webapp.api.answers import ATTEMPTS, EVENTS, TASKS, answer, answer_list, answer_state
from webapp.api.conditions import IfMatch, to_change
from webapp.auth import Allow, AllowLive, Request
from webapp.live import in_thread

INLINE_BYTES = 1024**2
WAIT_SECONDS = 60.0
NOT_MODIFIED = 304
TaskId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_.-]{1,64}$")]

router = Router(tags=["tasks"])


class Filters(Record):
    """What a list is narrowed to; several states or verdicts are joined by commas."""

    state: str = ""
    verdict: str = ""
    owner: str = ""
    node: str = ""
    label: str = Field(default="", description="key=value, or a key")
    text: str = Field(default="", description="part of the name, or the beginning of the id")
    limit: int = Field(default=50, ge=1, le=lists.MOST_ITEMS)
    cause: str = Field(default="", description="exit=3, or a limit that was hit, as memory=67108864")
    after: str = Field(default="", description="the cursor that the page before gave as next")
    before: str = Field(default="", description="the cursor that the page behind gave as previous")

    def chosen(self) -> dict[str, str]:
        """The filters alone."""
        return {name: str(getattr(self, name)) for name in lists.FILTERS if getattr(self, name)}


class CancelBody(Record):
    """Why a task is cancelled, for the people who read its result."""

    reason: str = Field(default="", max_length=500)


@router.post("", auth=Allow(Scope.SUBMIT), response={201: TaskView, 200: TaskView})
def submit(
    request: Request,
    body: SubmitBody,
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=200)] = "",
) -> HttpResponse:
    """Submit a task. With the same Idempotency-Key the same task is answered again, with status 200."""
    task, created = intake.submit(
        owner=request.auth.user,
        spec=body.spec,
        contents=_contents(body.blobs),
        default_name=body.name,
        idempotency_key=idempotency_key,
        now=timezone.now(),
    )
    return answer(present.task_view(task), 201 if created else 200)


@router.post("/check", auth=Allow(Scope.SUBMIT), response=CheckView)
def check(request: Request, body: SubmitBody) -> HttpResponse:
    """What a submit of this would say, and what similar tasks of yours really used; nothing is made.

    Files may still be paths, and references to contents that are ``missing`` are no problem here: upload them first.
    """
    return answer(checking.check(request.auth.user, body.spec, default_name=body.name, now=timezone.now()))


@router.post("/bulk", auth=Allow(Scope.SUBMIT), response={201: list[TaskView], 200: list[TaskView]})
def submit_many(
    request: Request,
    body: BulkBody,
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=190)] = "",
) -> HttpResponse:
    """Submit many tasks: all are made, in the order given, or none. The same Idempotency-Key answers the same tasks."""
    made, created = bulk.submit_all(
        owner=request.auth.user,
        wishes=[bulk.Wish(one.spec, one.name) for one in body.tasks],
        contents=_contents(body.blobs),
        idempotency_key=idempotency_key,
        now=timezone.now(),
    )
    return answer_list(TASKS, [present.task_view(task) for task in made], 201 if created else 200)


@router.get("", auth=Allow(Scope.READ), response=TaskPage)
def page(request: Request, filters: Query[Filters]) -> HttpResponse:
    """A page of the tasks you may see, newest first. ``next`` is the cursor of the page behind it, empty at the end.

    A page may have fewer tasks than ``limit``, or none, and not be the last: each looks through some thousand tasks.
    """
    place = lists.Place(filters.after, filters.before)
    return answer(lists.page(request.auth.user, filters.chosen(), place, filters.limit))


@router.get("/{task_id}", auth=Allow(Scope.READ), response={200: TaskView, 304: None})
def view(request: Request, task_id: TaskId) -> HttpResponse:
    """The task as it is now, with an ETag; 304 when If-None-Match names that one."""
    return answer_state(request, present.task_view(access.get_task(request.auth.user, task_id)))


@router.get("/{task_id}/spec", auth=Allow(Scope.READ), response=dict[str, object])
def spec(request: Request, task_id: TaskId) -> dict[str, object]:
    """The description of the task, its files as references."""
    found: dict[str, object] = access.get_task(request.auth.user, task_id).spec
    return found


@router.get("/{task_id}/wait", auth=AllowLive(Scope.READ), response={200: TaskView, 304: None})
async def wait(
    request: Request, task_id: TaskId, timeout: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 30.0
) -> HttpResponse:
    """The task as soon as it is final, or as it is after ``timeout`` seconds (60 at most).

    With If-None-Match it is answered as soon as it is another than that one, and 304 when the time is over.
    """
    deadline = time.monotonic() + min(timeout, WAIT_SECONDS)
    known = "If-None-Match" in request.headers
    # Subscribe first, look second: no change falls between the two.
    async with hub.subscribe([task_id]) as news:
        while True:
            left = deadline - time.monotonic()
            if known or left <= 0 or await in_thread(access.is_final, request.auth.user, task_id):
                found = await in_thread(_view_of, request, task_id)
                response = answer_state(request, found)
                if response.status_code != NOT_MODIFIED or found.state.final or left <= 0:
                    return response
            await news.wait(left)


@router.get("/{task_id}/events", auth=Allow(Scope.READ), response=list[EventView])
def timeline(request: Request, task_id: TaskId) -> HttpResponse:
    """The timeline of the task, oldest first."""
    return answer_list(EVENTS, present.timeline(access.get_task(request.auth.user, task_id)))


@router.get("/{task_id}/attempts", auth=Allow(Scope.READ), response=list[AttemptView])
def attempts(request: Request, task_id: TaskId) -> HttpResponse:
    """The attempts of the task, oldest first."""
    rows = access.get_task(request.auth.user, task_id).attempts.select_related("node").order_by("number")
    return answer_list(ATTEMPTS, [present.attempt_view(row) for row in rows])


@router.get("/{task_id}/explain", auth=Allow(Scope.READ), response=ExplainView)
def why(request: Request, task_id: TaskId) -> HttpResponse:
    """Why the task is where it is: its position, and the reasons of each node."""
    return answer(explain.explain(access.get_task(request.auth.user, task_id), timezone.now()))


@router.post("/{task_id}/cancel", auth=Allow(Scope.SUBMIT), response=TaskView)
def cancel(request: Request, task_id: TaskId, body: CancelBody, if_match: IfMatch = "") -> HttpResponse:
    """Cancel the task; one that ended in another way answers 409, one that is not as If-Match says 412."""
    user = request.auth.user
    with to_change(user, task_id, if_match) as task:
        task = records.cancel(task, by=user.username, reason=body.reason.strip(), now=timezone.now())
    if TaskState(task.state).final and task.state != TaskState.CANCELLED:
        raise Conflict(f"the task {task.id} has ended before: {task.verdict}")
    return answer(present.task_view(task))


@router.delete("/{task_id}", auth=Allow(Scope.SUBMIT), response={204: None})
def remove(request: Request, task_id: TaskId, if_match: IfMatch = "") -> HttpResponse:
    """Remove a task that has ended, with its attempts, logs and files; 409 while it has not, 412 as If-Match says.

    Contents that nothing else uses leave the disk with the next walk of the retention.
    """
    user = request.auth.user
    with to_change(user, task_id, if_match) as task:
        removal.remove(task, by=user.username, now=timezone.now())
    return HttpResponse(status=204)


def _view_of(request: Request, task_id: str) -> TaskView:
    return present.task_view(access.get_task(request.auth.user, task_id))


def _contents(blobs: dict[str, str]) -> dict[str, bytes]:
    """The small files that came along; raises SpecError, TooLarge."""
    found: dict[str, bytes] = {}
    for sha256, text in blobs.items():
        try:
            found[sha256] = base64.b64decode(text, validate=True)
        except ValueError as error:  # binascii.Error is one; what is not ASCII is another
            raise SpecError([Fault(f"blobs.{sha256}", f"is not base64: {error}")]) from None
    if sum(map(len, found.values())) > INLINE_BYTES:
        raise TooLarge(f"the blobs of a submit have at most {INLINE_BYTES} bytes together; upload larger ones first")
    return found
