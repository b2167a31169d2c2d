"""Numbers and states in words, for templates."""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import urlencode

from django import template
from django.urls import reverse

from grid.core.again import COPY_OF, RETRY_OF
from tasks.states import TaskState
from tasks.units import human_seconds, human_size
from tasks.views import EventView, TaskView

register = template.Library()

_TASK_ID = re.compile(r"[0-9a-f]{32}")

_TONES = {"success": "ok", "user": "bad", "infrastructure": "warn", "cancelled": "idle"}
_EVENTS = {
    "submitted": "submitted",
    "queued": "queued",
    "assigned": "given to a node",
    "started": "taken up by the node",
    "phase": "phase",
    "attempt_ended": "attempt ended",
    "retry": "back to the queue",
    "cancel_requested": "cancel asked for",
    "finished": "finished",
}


@register.filter
def size(value: int | None) -> str:
    """Bytes for people."""
    return "" if value is None else human_size(int(value))


@register.filter
def seconds(value: float | None) -> str:
    """A duration for people."""
    return "" if value is None else human_seconds(max(0.0, float(value)))


@register.filter
def since(moment: datetime | None, now: datetime) -> str:
    """How long ago."""
    if moment is None:
        return ""
    passed = (now - moment).total_seconds()
    return "now" if passed < 1 else human_seconds(float(int(passed)))


@register.filter
def took(start: datetime | None, end: datetime | None) -> str:
    """The time between two moments."""
    return human_seconds(max(0.0, (end - start).total_seconds())) if start and end else ""


@register.filter
def tone(task: TaskView) -> str:
    """The colour of a task's state or verdict; the word stands beside it always."""
    if task.state.final:
        return _TONES.get(task.verdict_class, "idle")
    return "run" if task.state in (TaskState.RUNNING, TaskState.ASSIGNED) else "idle"


@register.filter
def class_tone(verdict_class: str) -> str:
    """The colour of a verdict's class."""
    return _TONES.get(verdict_class, "idle")


@register.filter
def delivery_tone(state: str) -> str:
    """The colour of how far the telling of an end has come."""
    return {"delivered": "ok", "failed": "bad"}.get(str(state), "run")


@register.filter
def plain(word: str) -> str:
    """``memory_limit`` as "memory limit"."""
    return str(word).replace("_", " ")


@register.filter
def event_words(kind: str) -> str:
    """What an event means."""
    return _EVENTS.get(kind, plain(kind))


@register.filter
def event_data(event: EventView) -> str:
    """What an event's data says, in one line."""
    parts = (event.data.get(key) for key in ("node", "phase", "verdict", "by", "reason"))
    return ", ".join(plain(str(part)) if part == event.data.get("verdict") else str(part) for part in parts if part)


@register.filter
def dictvalue(known: dict[str, str], key: str) -> str:
    """The value under a key that is no identifier; empty when there is none."""
    return known.get(key, "")


_ORIGINS = {RETRY_OF: "again of", COPY_OF: "copy of"}


@register.filter
def labelled(labels: dict[str, str]) -> list[dict[str, str]]:
    """The labels of a task, each with the address of the tasks that have it too; of a retry or a copy, its origin."""
    found = []
    for key, value in sorted(labels.items()):
        if key in _ORIGINS and _TASK_ID.fullmatch(value):
            found.append({"text": f"{_ORIGINS[key]} …{value[-6:]}", "address": reverse("task", args=[value])})
            continue
        text = f"{key}={value}" if value else key
        found.append({"text": text, "address": f"{reverse('tasks')}?{urlencode({'label': text})}"})
    return found


@register.filter
def percent(part: float, whole: float) -> int:
    """A part of a whole, 0 to 100."""
    return min(100, round(100 * part / whole)) if whole else 0
