"""What people fill in to submit a task: from the fields of a form to a description, and what the form shows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.http import QueryDict
from django.utils import timezone

from grid.core import checking
from grid.folder import SPEC_NAMES
from grid.manifest import Listed, everything, read_listed
from tasks.errors import Fault, SpecError
from tasks.jsontext import parse_json
from tasks.limits import Limits
from tasks.spec import parse_spec
from tasks.specform import OTHER, Field, description_of, field_of, fields, grouped, limit_texts, texts_of
from tasks.views import SimilarView

OPEN_GROUPS = 2
"""So many groups of fields are shown at once; the others are folded until they hold something."""

# Options of `grid submit` beside the limits.
_FLAGS = ("name",)
_TALL = frozenset({"pairs", "files", "rules", "json"})


@dataclass(frozen=True, slots=True)
class Filled:
    """What was filled in. ``whole``: the fields are all there is, instead of something on top of a description.

    ``spec`` is a description as JSON text; where the fields are the whole it stands in their place. ``adding``: files
    that come along are put beside those that the description names already.
    """

    texts: Mapping[str, str]
    spec: str = ""
    whole: bool = False
    listed: tuple[Listed, ...] = ()
    adding: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing says what to run."""
        return not self.spec.strip() and not any(text.strip() for text in self.texts.values())


@dataclass(frozen=True, slots=True)
class Row:
    """One field as it is shown."""

    field: Field
    value: str
    faults: tuple[Fault, ...] = ()
    placeholder: str = ""
    usual: str = ""

    @property
    def lines(self) -> int:
        """Lines of text that the field shows; 1 for an ordinary input, and for one of two choices."""
        if self.field.kind in _TALL or "\n" in self.value:
            return max(2, min(12, self.value.count("\n") + 1))
        return 1

    @property
    def described(self) -> str:
        """The ids of what describes the field."""
        parts = [f"help-{self.field.name}", f"usual-{self.field.name}", f"fault-{self.field.name}"]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that stand together; ``folded`` ones are opened by a click."""

    title: str
    rows: tuple[Row, ...]
    folded: bool
    open: bool


def filled(data: QueryDict, *, adding: bool = False) -> Filled:
    """What a request says. Raises SpecError for a list of files that makes no sense."""
    names = {field.name for field in fields()}
    texts = {name: text for name in names if (text := data.get(name, "")).strip()}
    listed = read_listed(data.get("listed", ""))
    return Filled(texts, data.get("spec", ""), data.get("whole") == "1", listed, adding)


def description(given: Filled, base: Mapping[str, object] | None = None) -> dict[str, object]:
    """The description that was filled in, on top of the one among the files if there is any. Raises SpecError."""
    if given.spec.strip():
        base = parse_json(given.spec.encode(errors="replace"))
        if given.whole:
            return with_files(dict(base), given)
    made, faults = description_of(given.texts, {} if given.whole else base or {})
    if faults:
        raise SpecError([*faults, *_other_faults(made, faults)])
    return with_files(made, given)


def with_files(made: dict[str, object], given: Filled) -> dict[str, object]:
    """The description; where nobody has written one that could name the files, it takes in all of them."""
    if not given.listed or any(one.path in SPEC_NAMES for one in given.listed):
        return made
    return with_names(made, everything(given.listed), adding=given.adding)


def with_names(made: dict[str, object], names: Mapping[str, None], *, adding: bool) -> dict[str, object]:
    """The description with these files if it names none, or beside those that it names."""
    known = made.get("files", {})
    if not names or not isinstance(known, Mapping) or ("files" in made and not adding):
        return made
    return {**made, "files": {**known, **names}}


def _other_faults(made: Mapping[str, object], known: Iterable[Fault]) -> list[Fault]:
    """What else is wrong, so that nothing is found only after the first repair."""
    broken = {fault.path for fault in known}
    try:
        parse_spec(made)
    except SpecError as error:
        return [fault for fault in error.faults if fault.path and field_of(fault.path) not in broken]
    return []


def field_for(path: str, texts: Mapping[str, str]) -> str:
    """The field beside which a fault is shown; empty for those that belong to none."""
    return field_of(path) or (OTHER if path and OTHER in texts else "")


def groups(
    texts: Mapping[str, str], faults: Iterable[Fault], limits: Limits, similar: SimilarView | None = None
) -> list[Group]:
    """The fields in their groups, with what is wrong beside each. ``limits`` are those of a task that says nothing."""
    beside: dict[str, list[Fault]] = {}
    for fault in faults:
        beside.setdefault(field_for(fault.path, texts), []).append(fault)
    defaults = {f"limits.{name}": text for name, text in limit_texts(limits).items()}
    usual = {f"limits.{one.limit}": one.words for one in similar.limits} if similar else {}
    found = []
    for number, (title, names) in enumerate(grouped()):
        rows = tuple(
            Row(
                field,
                texts.get(field.name, ""),
                tuple(beside.get(field.name, ())),
                f"{default} by default" if (default := defaults.get(field.name)) else _example(field),
                usual.get(field.name, ""),
            )
            for field in names
            if field.name != OTHER or texts.get(OTHER)
        )
        if rows:
            folded = number >= OPEN_GROUPS
            found.append(Group(title, rows, folded, open=any(row.value or row.faults for row in rows)))
    return found


def _example(field: Field) -> str:
    return field.example.partition(" or ")[0] if field.example else ""


def images_for(user: User) -> list[str]:
    """Images to suggest."""
    return checking.images_for(user, timezone.now())


def pretty(made: Mapping[str, object]) -> str:
    """A description as text for people."""
    return json.dumps(made, indent=2, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class SameAs:
    """The same without the page: lines for a shell and for Python. ``save``: first the description goes into a file."""

    shell: str
    python: str
    save: bool


def same_as(folder: str, made: Mapping[str, object], base: Mapping[str, object] | None) -> SameAs:
    """How to submit this from elsewhere; ``base`` is the description in the folder as it is, None without one."""
    options = None if base is None else _options(made, base)
    save = options is None
    flags = "".join(f" --{key.replace('_', '-')} {shlex.quote(text)}" for key, text in (options or {}).items())
    words = [repr(folder)]
    if options:
        name = options.pop("name", None)
        words += [f"name={name!r}"] if name else []
        words += [f"limits={options!r}"] if options else []
    return SameAs(f"grid submit {shlex.quote(folder)}{flags}", f"grid.submit({', '.join(words)})", save)


def same_as_copy(task_id: str, made: Mapping[str, object], old: Mapping[str, object]) -> SameAs | None:
    """How to run a task again with these changes from elsewhere; None where files would have to be sent before."""
    now, before = texts_of(made), texts_of(old)
    changed = sorted({name.partition(".")[0] for name in {*now, *before} if now.get(name) != before.get(name)})
    if OTHER in changed or "files" in changed:
        return None
    nothing: dict[type, object] = {list: [], dict: {}, str: None, int: None, float: None, bool: False}
    changes = {key: made.get(key, nothing.get(type(old.get(key)))) for key in changed}
    flags = "".join(f" --set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in changes.items())
    words = ", ".join(f"{key}={value!r}" for key, value in changes.items())
    return SameAs(f"grid copy {task_id}{flags}", f"grid.get({task_id!r}).copy({words})", save=False)


def _options(made: Mapping[str, object], base: Mapping[str, object]) -> dict[str, str] | None:
    """What has to be said beside the folder to get this description; None when it takes more than options."""
    now, before = texts_of(made), texts_of(base)
    changed = {name for name in {*now, *before} if now.get(name) != before.get(name)}
    simple = {name: now[name] for name in changed if name in now and name in _SIMPLE}
    if len(simple) < len(changed):
        return None
    return {name.removeprefix("limits."): text for name, text in sorted(simple.items())}


_SIMPLE = frozenset(
    {*_FLAGS, *(f"limits.{name}" for name in Limits.model_fields if name != "network")},
)
