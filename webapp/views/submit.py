"""The form that takes a task: a folder, an archive, or a description with its files."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods

from grid.core.models import Task
from tasks.errors import Conflict, Fault, GridError, SpecError, TooLarge
from webapp import uploads
from webapp.forms import SubmitForm
from webapp.views.people import person


# The paths of a folder's files have to be asked for before the CSRF check reads the body; the check itself is inside.
@csrf_exempt
def submit_page(request: HttpRequest) -> HttpResponse:
    """The form, and what becomes of it."""
    size = int(request.headers.get("Content-Length") or 0)
    if size > uploads.CAPS.bytes + 1024**2:
        fault = Fault("", f"a form takes {uploads.CAPS.bytes} bytes at most", "use `grid submit` for larger tasks")
        return _page(request, SubmitForm(), [fault], 413)
    return _submit(request, uploads.keep_paths(request))


@csrf_protect
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def _submit(request: HttpRequest, paths: dict[str, str]) -> HttpResponse:
    if request.method != "POST":
        return _page(request, SubmitForm(), [])
    form = SubmitForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, form, _form_faults(form), 422)
    try:
        task = _take(person(request), form.cleaned_data, paths, timezone.now())
    except SpecError as error:
        return _page(request, form, list(error.faults), 422)
    except (TooLarge, Conflict) as error:
        return _page(request, form, [Fault("", str(error))], 413 if isinstance(error, TooLarge) else 409)
    except GridError as error:
        return _page(request, form, [Fault("", str(error))], 503)
    return redirect("task", task_id=task.id)


def _take(user: User, given: dict[str, Any], paths: dict[str, str], now: datetime) -> Task:
    with uploads.a_box() as box:
        name = "task"
        if given["folder"]:
            uploads.put_files(box, given["folder"], paths)
        elif given["archive"]:
            uploads.put_archive(box, given["archive"])
            name = uploads.stem(paths.get(given["archive"].name, "task")) or "task"
        else:
            box.file("task.json", [given["spec"].encode(errors="replace")])
            uploads.put_files(box, given["inputs"], paths)
        return uploads.submit_box(box, owner=user, name=name, given_name=given["name"], key=given["key"], now=now)


def _page(request: HttpRequest, form: SubmitForm, faults: list[Fault], status: int = 200) -> HttpResponse:
    # A form that is sent again is another task, so it gets another key; its text stays as it was.
    key = secrets.token_hex(16)
    return render(request, "submit.html", {"form": form, "faults": faults, "key": key}, status=status)


def _form_faults(form: SubmitForm) -> list[Fault]:
    return [
        Fault("" if field == "__all__" else field, str(message))
        for field, messages in form.errors.items()
        for message in messages
    ]
