"""The stream of everything that happens to the tasks one may see, as server-sent events."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from django.contrib.auth.models import User
from django.db import DatabaseError
from django.http import StreamingHttpResponse
from ninja import Header, Query, Router

from grid.core.conf import conf
from grid.core.models import Event
from grid.core.people import access
from grid.core.people.tokens import Scope
from grid.core.reading import present
from grid.core.reading.horizon import horizon
from grid.core.reading.hub import POLL_SECONDS, hub
from tasks import cloudevents
from tasks.views import EventView
from webapp.auth import AllowLive, Request
from webapp.live import in_thread

logger = logging.getLogger(__name__)

STREAM_SECONDS = 600.0
"""After this the client comes again (browsers do so by themselves): a revoked token does not listen for ever."""

SILENCE_SECONDS = 15.0
BATCH = 500

router = Router(tags=["events"])


@router.get("", auth=AllowLive(Scope.READ), response=EventView)
async def stream(
    request: Request,
    task: Annotated[str, Query(max_length=64)] = "",
    last: Annotated[str, Header(alias="Last-Event-ID", max_length=20)] = "",
    format: Annotated[Literal["", "cloudevents"], Query()] = "",
) -> StreamingHttpResponse:
    """Events from now on, or from behind the one numbered Last-Event-ID; ``task`` narrows them to one task.

    Once the head of the answer is there, nothing that happens later is missed. The first line tells the id to go on
    from, also for who hears of nothing before the line breaks. ``format=cloudevents``, or Accept with
    application/cloudevents+json, puts each event into that envelope.
    """
    user = request.auth.user
    if task:
        await in_thread(access.get_task, user, task)
    since = int(last) if last.isascii() and last.isdigit() else (await in_thread(horizon.look))[0]
    wrapped = format == "cloudevents" or cloudevents.CONTENT_TYPE in request.headers.get("Accept", "")
    response = StreamingHttpResponse(_lines(user, task, since, wrapped), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _lines(user: User, task: str, since: int, wrapped: bool) -> AsyncIterator[bytes]:
    end = time.monotonic() + STREAM_SECONDS
    # An id without data is no event, but browsers remember it: who reconnects goes on from here.
    yield f"retry: 1000\nid: {since}\n\n".encode()
    async with hub.subscribe([task] if task else None) as news:
        while time.monotonic() < end:
            try:
                found, since, more = await in_thread(_after, user, task, since)
            except DatabaseError as error:
                # The head of the answer is out: all that is left is to end it; the client comes again.
                logger.warning("a stream of events ends: %s", error, extra={"action": "end_stream"})
                return
            for event in found:
                told = cloudevents.of_event(event, conf().public_url.rstrip("/")) if wrapped else event
                yield f"id: {event.number}\ndata: {told.model_dump_json()}\n\n".encode()
            if found:
                continue
            if not await news.wait(POLL_SECONDS if more else SILENCE_SECONDS) and not more:
                yield f": still here\nid: {since}\n\n".encode()


def _after(user: User, task: str, since: int) -> tuple[list[EventView], int, bool]:
    """The next events that the user may see, the number from which to go on, and whether to look again soon.

    Nothing is told that lies beyond a number which may still appear: who goes on behind it would never hear of that.
    """
    settled, more = horizon.look()
    rows = Event.objects.filter(id__gt=since, id__lte=settled).order_by("id")
    if task:
        rows = rows.filter(task_id=task)
    if not access.sight(user).everything:
        rows = (
            rows.filter(task__in=access.visible_tasks(user).values("id"))
            if access.sees_others(user)
            else rows.filter(task__owner=user)
        )
    found = [present.event_view(row) for row in rows[:BATCH]]
    # What others do is not looked through again and again.
    return found, found[-1].number if len(found) == BATCH else max(settled, since), more
