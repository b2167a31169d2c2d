"""Contents of files by their sha256, uploaded once and named by tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from django.http import FileResponse, HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Path, Router
from pydantic import Field

from grid.core import intake
from grid.core.conf import conf
from grid.core.contents.store import Stored, get_store
from grid.core.people import access
from grid.core.people.tokens import Scope
from tasks.errors import NotFound, TooLarge
from tasks.model import Record
from webapp.api.answers import BLOCK_BYTES, answer
from webapp.api.ranges import ranged
from webapp.auth import Allow, Request

Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]

router = Router(tags=["blobs"])


class Hashes(Record):
    """Contents that a task is going to need."""

    sha256: tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], ...] = Field(max_length=10_000)


class Missing(Record):
    """Those of them that have to be uploaded."""

    missing: list[str]


class Kept(Record):
    """A content that the server has now."""

    sha256: str
    size: int


@router.post("/missing", auth=Allow(Scope.SUBMIT), response=Missing)
def missing(request: Request, body: Hashes) -> HttpResponse:
    """Which of the contents you have to upload before a task of yours may name them."""
    return answer(Missing(missing=access.missing_blobs(request.auth.user, body.sha256, timezone.now())))


@router.put("/{sha256}", auth=Allow(Scope.SUBMIT), response={201: Kept})
def upload(request: Request, sha256: Sha256) -> HttpResponse:
    """Upload a content as the raw body; it is refused (422) when it has not this hash."""
    return kept(intake.upload(request.auth.user, body_of(request), sha256, timezone.now()))


@router.get("/{sha256}", auth=Allow(Scope.READ))
def content(request: Request, sha256: Sha256) -> FileResponse | HttpResponse:
    """A content that you uploaded, or that a task you may see takes in or brought back, or a part of it (Range)."""
    if not access.may_read_blob(request.auth.user, sha256):
        raise NotFound(f"there is no content {sha256}, or it is not yours")
    return ranged(request, get_store().open(sha256), sha256, sha256)


def kept(stored: Stored) -> HttpResponse:
    """The answer to an upload."""
    return answer(Kept(sha256=stored.sha256, size=stored.size), 201)


def body_of(request: HttpRequest) -> Iterator[bytes]:
    """The raw body as it comes over the network, a block at a time; raises TooLarge before reading too much."""
    size = int(request.headers.get("Content-Length") or 0)
    if size > conf().max_blob_bytes:
        raise TooLarge(f"the file has {size} bytes; the most that is taken here is {conf().max_blob_bytes}")
    return iter(lambda: request.read(BLOCK_BYTES), b"")
