"""A file that a task brought back, looked at safely: text as text, pictures from an address where nothing can run."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from django.contrib.auth.decorators import login_required
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from grid.core.contents.store import get_store
from grid.core.models import OutputFile, Task
from grid.core.reading import present
from tasks.errors import NotFound
from webapp.middleware import inert
from webapp.views.finding import task_or_404

TEXT_BYTES = 256 * 1024
PICTURE_BYTES = 32 * 1024**2
_HEAD_BYTES = 16
_MOST_DIGITS = 6
_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp")


@dataclass(frozen=True, slots=True)
class Preview:
    """What a page shows of a file: ``kind`` is text, picture, or other; ``cut`` bytes of a text are left out."""

    kind: str
    text: str = ""
    cut: int = 0


def looks_like_picture(path: str, size: int) -> bool:
    """Whether a small picture is worth asking for, by the name alone; what it is, its first bytes say."""
    return path.lower().endswith(_ENDINGS) and size <= PICTURE_BYTES


def picture_type(head: bytes) -> str:
    """The media type of a picture that browsers show and that holds no program, by its first bytes; else empty."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return ""


@login_required
@require_safe
def preview(request: HttpRequest, task_id: str) -> HttpResponse:
    """The page of one file."""
    task, row = _file(request, task_id)
    with _opened(row) as content:
        head = content.read(TEXT_BYTES)
    last = row.attempt_id == task.attempt_id
    context = {
        "task": present.task_view(task),
        "path": row.path,
        "name": PurePosixPath(row.path).name,
        "size": row.blob.size,
        "sha256": row.blob_id,
        "preview": _preview(head, row.blob.size),
        "attempt": None if last else row.attempt.number,
    }
    return render(request, "task_file.html", context)


@login_required
@require_safe
def picture(request: HttpRequest, task_id: str) -> FileResponse:
    """The bytes of a picture, and of nothing else: its type is told by its content, and nothing in it can run."""
    _, row = _file(request, task_id)
    with _opened(row) as content:
        kind = picture_type(content.read(_HEAD_BYTES))
    if not kind or row.blob.size > PICTURE_BYTES:
        raise Http404("this file is no picture that can be shown")
    response = FileResponse(_opened(row), content_type=kind)
    response.headers["Content-Disposition"] = "inline"
    return inert(response, "private, no-cache")


def _file(request: HttpRequest, task_id: str) -> tuple[Task, OutputFile]:
    """A file of the attempt that the address names by its number, or else of the newest."""
    task = task_or_404(request, task_id)
    number = request.GET.get("attempt", "")
    rows = OutputFile.objects.filter(path=request.GET.get("path", ""))
    if number.isascii() and number.isdigit() and len(number) < _MOST_DIGITS:
        rows = rows.filter(attempt__task=task, attempt__number=int(number))
    else:
        rows = rows.filter(attempt_id=task.attempt_id)
    row = rows.select_related("blob", "attempt").first() if task.attempt_id else None
    if row is None:
        raise Http404(f"the task {task_id} brought back no such file")
    return task, row


def _opened(row: OutputFile) -> BinaryIO:
    try:
        return get_store().open(row.blob_id)
    except NotFound as error:
        raise Http404(str(error)) from None


def _preview(head: bytes, size: int) -> Preview:
    if picture_type(head):
        return Preview("picture" if size <= PICTURE_BYTES else "other")
    try:
        # The last character may have been cut through.
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) == size)
    except UnicodeDecodeError:
        return Preview("other")
    if "\0" in text:
        return Preview("other")
    return Preview("text", text, size - len(head))
