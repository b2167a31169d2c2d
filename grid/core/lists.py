"""Lists of tasks, newest first, in pages by keys. No page reads more than a window of rows, whatever is asked for.

One filter leads: its index is walked from the newest task down. What is asked beside it has no index in this order (or
a database without statistics would walk the wrong one): it is looked for among the next ``WINDOW`` rows of the walk,
and a page may then have fewer tasks than wanted, or none, and yet a cursor to go on from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.contrib.auth.models import User
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Concat

from grid.core import access, present
from grid.core.models import Task
from tasks.errors import Fault, SpecError
from tasks.views import TaskPage

MOST_ITEMS = 500
WINDOW = 10_000
FILTERS = ("state", "verdict", "owner", "node", "label", "text")
# In the order in which they lead: those that leave the fewest tasks as a rule come first.
_COLUMNS = {"verdict": "verdict", "node": "node_name", "owner": "owner_id", "state": "state"}
_ID = re.compile(r"[0-9a-f]{1,32}")

Words = dict[str, list[str]]


def page(user: User, filters: Mapping[str, str], after: str, limit: int) -> TaskPage:
    """A page of the tasks that ``user`` may see, from behind the cursor ``after``; raises SpecError for a filter that
    is not known.

    An empty cursor ``next`` in the answer means that there are no more; a page without tasks alone does not.
    """
    wrong = [name for name in filters if name not in FILTERS]
    if wrong:
        raise SpecError(Fault(name, "is not a filter", f"filters are {', '.join(FILTERS)}") for name in wrong)
    given = {name: text for name, text in filters.items() if text}
    rest = {name: given[name].split(",") for name in _COLUMNS if name in given}
    if "owner" in rest:
        rest["owner"] = _numbers(rest["owner"])
    walk, rest = _leading(access.visible_tasks(user), rest, led=not access.sight(user).everything)
    if after:
        walk = walk.filter(id__lt=after)
    text, label = given.get("text", ""), given.get("label", "")
    if text and _is_id(text):
        walk, text = walk.filter(id__gte=text, id__lt=f"{text}g"), ""
    last = ""
    if rest or label or text:
        walk, last = _window(walk)
        walk = _beside(walk, rest, label, text)
    limit = max(1, min(limit, MOST_ITEMS))
    # The texts of specs may be long; only what a list shows is made from them.
    found = list(walk.select_related("owner", "attempt").order_by("-id")[: limit + 1])
    more = found[limit - 1].id if len(found) > limit else last
    return TaskPage(items=tuple(present.task_view(task) for task in found[:limit]), next=more)


def _leading(walk: QuerySet[Task], wanted: Words, *, led: bool) -> tuple[QuerySet[Task], Words]:
    """Narrow the walk by one filter of a single word, unless it is that of one owner already; and what is left."""
    for name, words in wanted.items():
        if not led and len(words) == 1:
            rest = {other: words for other, words in wanted.items() if other != name}
            return walk.filter(**{_COLUMNS[name]: words[0]}), rest
    return walk, wanted


def _window(walk: QuerySet[Task]) -> tuple[QuerySet[Task], str]:
    """The next rows of the walk, and the id of the last of them if there are more."""
    # A few thousand steps of the index, and no row of the table.
    edge = list(walk.order_by("-id").values_list("id", flat=True)[WINDOW - 1 : WINDOW + 1])
    return (walk.filter(id__gte=edge[0]), edge[0]) if len(edge) == 2 else (walk, "")


def _beside(tasks: QuerySet[Task], rest: Words, label: str, text: str) -> QuerySet[Task]:
    """The tasks of a window that fit the filters that did not lead."""
    for name, words in rest.items():
        # An expression, for which no index can be taken.
        kept = F("owner_id") + 0 if name == "owner" else Concat(F(_COLUMNS[name]), Value(""))
        tasks = tasks.alias(**{f"kept_{name}": kept}).filter(**{f"kept_{name}__in": words})
    if label:
        key, _, value = label.partition("=")
        tasks = tasks.filter(Q(**{f"labels__{key}": value}) if value else Q(labels__has_key=key))
    return tasks.filter(name__icontains=text) if text else tasks


def _is_id(text: str) -> bool:
    """Whether the text is the beginning of the id of a task."""
    if not _ID.fullmatch(text):
        return False
    return Task.objects.filter(id__gte=text, id__lt=f"{text}g").exists()


def _numbers(names: list[str]) -> list[str]:
    """The numbers of the people of these names; 0, which nobody has, where there is none."""
    known = dict(User.objects.filter(username__in=names).values_list("username", "id"))
    return [str(known.get(name, 0)) for name in names]
