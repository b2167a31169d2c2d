"""Lists of tasks, newest first, in pages by keys. No page reads more than a window of rows, whatever is asked for.

One filter leads: its index is walked from the newest task down, or from a known one up. For people who see the tasks
of others too the indexes of all these people are walked side by side. What is asked beside it has no index in this
order (or a database without statistics would walk the wrong one): it is looked for among the next ``WINDOW`` rows of
the walk, and a page may then have fewer tasks than wanted, or none, and yet a cursor to go on from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F, QuerySet, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Concat

from grid.core.models import Task
from grid.core.people import access
from grid.core.reading import present
from tasks.alike import EXIT, cause_of
from tasks.errors import Fault, SpecError
from tasks.views import TaskPage, TaskView

MOST_ITEMS = 500
WINDOW = 10_000
FILTERS = ("state", "verdict", "owner", "node", "label", "text", "cause")
# In the order in which they lead: those that leave the fewest tasks as a rule come first.
_COLUMNS = {"verdict": "verdict", "node": "node_name", "owner": "owner_id", "state": "state"}
_ID = re.compile(r"[0-9a-f]{1,32}")

Words = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a list: behind (older than) one task, or before (newer than) one; the newest tasks with neither."""

    after: str = ""
    before: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """What is found of a list in one look: ``rows`` in the order of the look, and ``edge``, the id of the last row that
    was looked at if there are more behind it."""

    rows: QuerySet[Task]
    edge: str


def page(user: User, filters: Mapping[str, str], place: Place, limit: int) -> TaskPage:
    """A page of the tasks that ``user`` may see; raises SpecError for a filter that is not known.

    An empty cursor ``next`` in the answer means that there are no older ones; a page without tasks alone does not.
    """
    limit = max(1, min(limit, MOST_ITEMS))
    part = look(user, filters, place)
    # What is shown is found first and read then. PostgreSQL cannot guess how few tasks fit what is looked for beside an
    # index, and would join all of a window with the people, or sort the long texts of all its specs.
    fitting = Task.objects.filter(id__in=part.rows.values("id")[: limit + 1]).select_related("owner", "attempt")
    found = list(fitting.order_by("id" if place.before else "-id"))
    more = found[limit - 1].id if len(found) > limit else part.edge
    shown = found[:limit]
    if place.before:
        # It was walked up: the list is shown from the newest down all the same.
        shown.reverse()
        return TaskPage(items=_views(shown), next=shown[-1].id if shown else _beyond(place.before), previous=more)
    newer = place.after and (shown[0].id if shown else place.after)
    return TaskPage(items=_views(shown), next=more, previous=newer)


def look(user: User, filters: Mapping[str, str], place: Place, window: int = 0) -> Part:
    """The tasks that fit among the next ``window`` of those that ``user`` may see (0: as many as a page looks at).

    Raises SpecError for a filter that is not known.
    """
    wrong = [name for name in filters if name not in FILTERS]
    if wrong:
        raise SpecError(Fault(name, "is not a filter", f"filters are {', '.join(FILTERS)}") for name in wrong)
    given = {name: text for name, text in filters.items() if text}
    rest = {name: given[name].split(",") for name in _COLUMNS if name in given}
    if "owner" in rest:
        rest["owner"] = _numbers(rest["owner"])
    everything = access.sight(user).everything
    walk, rest = _leading(access.visible_tasks(user), rest, led=not everything)
    beside: dict[str, str] = {name: given[name] for name in ("label", "text", "cause") if name in given}
    prefix = beside.pop("text") if _is_id(beside.get("text", "")) else ""
    walk = _from(walk, place, prefix)
    parts = [walk] if everything else [_from(part, place, prefix) for part in access.visible_parts(user)]
    edge = ""
    if rest or beside or len(parts) != 1:
        most = window or (WINDOW if rest or beside or not parts else MOST_ITEMS + 1)
        walk, edge = _window(walk, parts or [_from(Task.objects.all(), place, prefix)], most, up=bool(place.before))
        walk = _beside(walk, rest, beside)
    return Part(walk, edge)


def _from(walk: QuerySet[Task], place: Place, prefix: str) -> QuerySet[Task]:
    """The walk from a place on, in its direction, through ids that begin so."""
    if prefix:
        walk = walk.filter(id__gte=prefix, id__lt=_beyond(prefix))
    if place.before:
        return walk.filter(id__gt=place.before).order_by("id")
    return (walk.filter(id__lt=place.after) if place.after else walk).order_by("-id")


def _beyond(task_id: str) -> str:
    """A cursor that stands just above a task, so that what is behind the cursor begins with it."""
    return f"{task_id}g"


def _views(tasks: list[Task]) -> tuple[TaskView, ...]:
    return tuple(present.task_view(task) for task in tasks)


def _leading(walk: QuerySet[Task], wanted: Words, *, led: bool) -> tuple[QuerySet[Task], Words]:
    """Narrow the walk by one filter of a single word, unless it is that of one owner already; and what is left."""
    for name, words in wanted.items():
        if not led and len(words) == 1:
            rest = {other: words for other, words in wanted.items() if other != name}
            return walk.filter(**{_COLUMNS[name]: words[0]}), rest
    return walk, wanted


def _window(walk: QuerySet[Task], parts: list[QuerySet[Task]], window: int, *, up: bool) -> tuple[QuerySet[Task], str]:
    """The next rows of the walk, which is made of ``parts``, and the id of the last of them if there are more."""
    # A few thousand steps of the indexes, and no row of the table.
    ids = parts[0].values_list("id", flat=True)
    if len(parts) > 1:
        steps = [_steps(part, window) for part in parts]
        ids = steps[0].union(*steps[1:], all=True).order_by("id" if up else "-id")
    edge = list(ids[window - 1 : window + 1])
    if len(edge) < 2:
        return walk, ""
    return walk.filter(**{"id__lte" if up else "id__gte": edge[0]}), edge[0]


def _steps(part: QuerySet[Task], window: int) -> QuerySet[Task, str]:
    """The ids of a part, for a walk side by side with others."""
    if connection.features.supports_slicing_ordering_in_compound:
        # PostgreSQL reads and sorts whole parts, unless each is in order by itself and not longer than may be needed.
        return part.values_list("id", flat=True)[: window + 1]
    return part.order_by().values_list("id", flat=True)


def _beside(tasks: QuerySet[Task], rest: Words, beside: Mapping[str, str]) -> QuerySet[Task]:
    """The tasks of a window that fit the filters that did not lead."""
    for name, words in rest.items():
        # An expression, for which no index can be taken.
        kept = F("owner_id") + 0 if name == "owner" else Concat(F(_COLUMNS[name]), Value(""))
        tasks = tasks.alias(**{f"kept_{name}": kept}).filter(**{f"kept_{name}__in": words})
    if label := beside.get("label"):
        key, _, value = label.partition("=")
        # Not by a name of Django's, which would take some keys for questions of its own ("contains").
        said = Cast(KeyTextTransform(key, "labels"), TextField())
        labelled = tasks.alias(kept_label=said).filter(kept_label=value)
        tasks = labelled if value else tasks.filter(labels__has_key=key)
    if text := beside.get("text"):
        tasks = tasks.filter(name__icontains=text)
    if cause := beside.get("cause"):
        name, number = cause_of(cause)
        tasks = tasks.filter(**{"exit_code" if name == EXIT else f"limits__{name}": number})
    return tasks


def _is_id(text: str) -> bool:
    """Whether the text is the beginning of the id of a task."""
    if not text or not _ID.fullmatch(text):
        return False
    return Task.objects.filter(id__gte=text, id__lt=f"{text}g").exists()


def _numbers(names: list[str]) -> list[str]:
    """The numbers of the people of these names; 0, which nobody has, where there is none."""
    known = dict(User.objects.filter(username__in=names).values_list("username", "id"))
    return [str(known.get(name, 0)) for name in names]
