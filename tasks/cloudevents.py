"""News as CloudEvents 1.0 in structured JSON (https://github.com/cloudevents/spec)."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from tasks.model import Record
from tasks.views import EventView, TaskView

CONTENT_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"
FINISHED = "grid.task.finished"


class FinishedTask(Record):
    """What a webhook tells: the task as it ended, and where its result and its page are."""

    task: TaskView
    result: str
    page: str


class CloudEvent(Record):
    """The envelope; ``source`` and ``id`` together name one event, however often it is sent."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    data: FinishedTask | dict[str, str | int | float | bool | None]


def of_event(event: EventView, source: str) -> CloudEvent:
    """A line of a timeline in the envelope; the number of the event is its id."""
    return CloudEvent(
        id=str(event.number),
        source=source,
        type=f"grid.task.{event.kind}",
        subject=event.task,
        time=event.at,
        data=event.data,
    )
