"""The page that takes a task: fields from the schema, and a folder, an archive or files; also to run one again."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_POST

from grid.core import checking, intake
from grid.core.again import again
from grid.core.models import Task
from grid.core.people import access
from grid.core.reading.similar import similar
from grid.folder import Package
from grid.manifest import pack
from tasks.errors import Conflict, Fault, GridError, NotAllowed, SpecError, TooLarge
from tasks.jsontext import parse_json
from tasks.spec import parse_spec
from tasks.specform import texts_of
from tasks.units import human_size
from tasks.views import CheckView, SimilarView
from webapp import taskform, uploads
from webapp.archives import Box
from webapp.forms import SubmitForm
from webapp.taskform import Filled
from webapp.views.finding import task_or_404
from webapp.views.people import person

_NOTHING = Fault(
    "", "there is nothing to run", "Choose a folder or an archive, say what runs, or paste the description of a task."
)


NOTHING = SimilarView(count=0, by="name")


@dataclass(frozen=True, slots=True)
class Told:
    """What the page says beside the fields: what is wrong, what similar tasks used, the same as a command."""

    faults: tuple[Fault, ...] = ()
    similar: SimilarView | None = None
    same: taskform.SameAs | None = None
    checked: bool = False
    status: int = 200


# The paths of a folder's files have to be asked for before the CSRF check reads the body; the check itself is inside.
@csrf_exempt
def submit_page(request: HttpRequest) -> HttpResponse:
    """The form, and what becomes of it."""
    return take(request, "")


def take(request: HttpRequest, task_id: str) -> HttpResponse:
    """The form for a new task, or for one that is run again."""
    size = int(request.headers.get("Content-Length") or 0)
    if size > uploads.CAPS.bytes + 1024**2:
        text = f"A form takes {human_size(uploads.CAPS.bytes)} at most. For larger tasks use: grid submit FOLDER"
        return render(request, "error.html", {"title": "This is too large", "text": text, "status": 413}, status=413)
    return _submit(request, uploads.keep_paths(request), task_id)


@csrf_protect
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def _submit(request: HttpRequest, paths: dict[str, str], task_id: str) -> HttpResponse:
    of = task_or_404(request, task_id) if task_id else None
    if request.method != "POST":
        given = Filled({}) if of is None else Filled(texts_of(of.spec), whole=True)
        return _page(request, of, given, Told(similar=_similar(person(request), of)))
    form = SubmitForm(request.POST, request.FILES)
    given = Filled({}, request.POST.get("spec", ""), request.POST.get("whole") == "1")
    try:
        given = taskform.filled(request.POST, adding=of is not None)
        if not form.is_valid():
            raise SpecError(_form_faults(form))
        if "only" in request.POST:
            return _page(request, of, given, _checked(request, given, of))
        made = _made(request, form.cleaned_data, given, paths, of)
    except GridError as error:
        return _refused(request, of, given, error)
    if of is not None:
        messages.info(request, f"This is {of.name}, run again.")
    if _wants_json(request):
        return JsonResponse({"location": reverse("task", args=[made.id])}, status=201)
    return redirect("task", task_id=made.id)


def _made(request: HttpRequest, files: dict[str, Any], given: Filled, paths: dict[str, str], of: Task | None) -> Task:
    """The task of the form. Raises GridError."""
    user, now = person(request), timezone.now()
    if "listed" in request.POST:
        # A script has sent the contents already; here come their names and hashes.
        spec, name = _packed(given), request.POST.get("folder_name", "")[:200]
        return _submitted(user, of, spec, name, files["key"], now)
    sent = any(files[name] for name in ("folder", "archive", "inputs"))
    if not sent and given.empty and not given.whole:
        if of is None or "spec" in request.POST:
            raise SpecError([_NOTHING])
        return _submitted(user, of, None, of.name, files["key"], now)
    with uploads.a_box() as box:
        name, package = _boxed(box, files, given, paths)
        uploads.send_files(package, user, now)
        return _submitted(user, of, package.spec, name, files["key"], now)


def _boxed(box: Box, files: dict[str, Any], given: Filled, paths: dict[str, str]) -> tuple[str, Package]:
    """The task in what was sent, and its name where it has none."""
    name = "task"
    archive = files["archive"]
    if archive and paths.get(archive.name, "").lower().endswith(".json"):
        box.file("task.json", archive.chunks())
    elif archive:
        uploads.put_archive(box, archive)
        name = uploads.stem(paths.get(archive.name, "task")) or "task"
    uploads.put_files(box, files["folder"] or files["inputs"], paths)
    folder, package = uploads.packed(box, given)
    return folder or name, package


def _submitted(user: User, of: Task | None, spec: object, name: str, key: str, now: datetime) -> Task:
    if of is not None:
        return again(of, user=user, spec=spec, key=key, now=now)
    task, _ = intake.submit(
        owner=user, spec=spec, contents={}, default_name=name or "task", idempotency_key=key, now=now
    )
    return task


def _packed(given: Filled) -> dict[str, object]:
    """The description with references to contents that were sent. Raises SpecError with all faults of both."""
    made = pack(taskform.description(given), given.listed)
    faults = list(made.faults)
    faults += [Fault(f"files.{one.path}", "was not hashed", "send it again") for one in made.taken if not one.sha256]
    if faults:
        raise SpecError([*faults, *_parse_faults(made.spec)])
    return made.spec


def _parse_faults(spec: dict[str, object]) -> tuple[Fault, ...]:
    try:
        parse_spec(spec)
    except SpecError as error:
        return error.faults
    return ()


# --------------------------------------------------------------------------------------------------------------- check
@login_required
@require_POST
def check(request: HttpRequest) -> HttpResponse:
    """What a submit of this would say, as JSON for the script of the page; nothing is made.

    With ``fill`` the fields follow the description in ``spec``; without it they are what counts.
    """
    user = person(request)
    of = task_or_404(request, request.POST["again"]) if request.POST.get("again") else None
    answer: dict[str, object] = {}
    try:
        given = taskform.filled(request.POST, adding=of is not None)
        if request.POST.get("fill"):
            answer["texts"] = texts_of(parse_json(request.POST.get("spec", "").encode(errors="replace")))
        made = taskform.description(given)
        answer |= {"json": taskform.pretty(made), "same": _same(request.POST, made, of)}
        found, files = _look(user, given, made, of)
    except SpecError as error:
        found, files = CheckView(problems=checking.problems_of(error.faults)), {}
    except GridError as error:
        found, files = CheckView(problems=checking.problems_of([Fault("", str(error))])), {}
    answer |= {
        "problems": [
            {**one.model_dump(), "field": taskform.field_for(one.path, request.POST)} for one in found.problems
        ],
        "files": files,
        "usual": _usual(found),
    }
    return JsonResponse(answer)


def _usual(found: CheckView) -> dict[str, dict[str, str]]:
    """What is told below the fields of limits: what similar tasks used, and where less is given than was asked."""
    told = {one.limit: {"words": one.words, "suggested": one.suggested} for one in (found.similar or NOTHING).limits}
    for name, words in found.lowered.items():
        known = told.get(name, {"words": "", "suggested": ""})
        told[name] = {**known, "words": f"{words}. {known['words']}".strip()}
    return {f"limits.{name}": one for name, one in told.items()}


def _look(user: User, given: Filled, made: dict[str, object], of: Task | None) -> tuple[CheckView, dict[str, object]]:
    """What would be said, and what would have to be sent."""
    now = timezone.now()
    packed = pack(made, given.listed)
    lent = _lent(user, of)
    found = checking.check(user, packed.spec, default_name="task", now=now, lent=lent)
    told = {one.path for one in found.problems}
    lost = set(found.missing) - {one.sha256 for one in packed.taken}
    problems = [
        *found.problems,
        *checking.problems_of([fault for fault in packed.faults if fault.path not in told]),
        *checking.problems_of(
            [Fault("files", f"the content {one} is not stored here, or is not yours") for one in sorted(lost)]
        ),
    ]
    # Who sends a file again has shown that it is theirs: what counts is what they have, not what others have.
    hashed = [one.sha256 for one in packed.taken if one.sha256]
    files: dict[str, object] = {
        "taken": [one.path for one in packed.taken],
        "missing": access.missing_blobs(user, hashed, now),
    }
    return found.model_copy(update={"problems": tuple(problems)}), files


def _lent(user: User, of: Task | None) -> frozenset[str]:
    """The input files of a task that is run again by somebody who manages it: they need not be sent."""
    if of is None or not access.may_change(user, of):
        return frozenset()
    return frozenset(of.inputs.values_list("blob_id", flat=True))


def _checked(request: HttpRequest, given: Filled, of: Task | None) -> Told:
    """The same for a page without scripts."""
    made = taskform.description(given)
    found, _ = _look(person(request), given, made, of)
    faults = tuple(Fault(one.path, one.message, one.hint) for one in found.problems)
    if of is None:
        same: taskform.SameAs | None = taskform.same_as("FOLDER", made, None)
    else:
        same = taskform.same_as_copy(of.id, made, of.spec)
    return Told(faults, found.similar, same, checked=True)


def _same(data: QueryDict, made: dict[str, object], of: Task | None) -> dict[str, object] | None:
    """The same as a command: for the folder that was chosen, or for the task that is run again."""
    if of is not None:
        again_as = taskform.same_as_copy(of.id, made, of.spec)
        return asdict(again_as) if again_as else None
    try:
        text = str(data.get("base", ""))
        base = parse_json(text.encode(errors="replace")) if text else None
    except SpecError:
        base = None
    found = taskform.same_as(str(data.get("folder_name") or "FOLDER"), made, base)
    return asdict(found)


def _similar(user: User, of: Task | None) -> SimilarView | None:
    try:
        return None if of is None else similar(user, parse_spec(of.spec, default_name=of.name))
    except SpecError:
        return None


# ---------------------------------------------------------------------------------------------------------------- page
def _page(request: HttpRequest, of: Task | None, given: Filled, told: Told) -> HttpResponse:
    user, now = person(request), timezone.now()
    limits = checking.default_limits(user, now)
    context = {
        "task": of,
        "form": SubmitForm(initial={"spec": given.spec}),
        "groups": taskform.groups(given.texts, told.faults, limits, told.similar),
        "whole": given.whole,
        "told": told,
        "faults": told.faults,
        "images": taskform.images_for(user),
        # A form that is sent again is another task, so it gets another key; its text stays as it was.
        "key": new_key(),
        "most_files": uploads.CAPS.files,
    }
    return render(request, "submit.html", context, status=told.status)


def _refused(request: HttpRequest, of: Task | None, given: Filled, error: GridError) -> HttpResponse:
    known = {SpecError: 422, TooLarge: 413, Conflict: 409, NotAllowed: 403}
    status = next((status for kind, status in known.items() if isinstance(error, kind)), 503)
    faults = error.faults if isinstance(error, SpecError) else (Fault("", str(error)),)
    if not _wants_json(request):
        return _page(request, of, given, Told(tuple(faults), status=status))
    problems = [
        {**one.model_dump(), "field": taskform.field_for(one.path, given.texts)} for one in checking.problems_of(faults)
    ]
    return JsonResponse({"problems": problems}, status=status)


def new_key() -> str:
    """A key for a form: a button that is pressed twice makes one task."""
    return secrets.token_hex(16)


def _wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept", "").startswith("application/json")


def _form_faults(form: SubmitForm) -> list[Fault]:
    return [
        Fault("" if field == "__all__" else field, str(message))
        for field, messages in form.errors.items()
        for message in messages
    ]
