"""How values become answers: JSON of records, bytes of files."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import Protocol, TypeVar, cast

from django.http import FileResponse, HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import parse_etags
from pydantic import BaseModel, TypeAdapter

from tasks.errors import Changed
from tasks.model import Record
from tasks.views import AttemptView, EventView, NodeSampleView, NodeStatus, TaskView
from webapp.middleware import inert

EVENTS = TypeAdapter(list[EventView])
ATTEMPTS = TypeAdapter(list[AttemptView])
NODES = TypeAdapter(list[NodeStatus])
SAMPLES = TypeAdapter(list[NodeSampleView])
TASKS = TypeAdapter(list[TaskView])

BLOCK_BYTES = 256 * 1024


class Readable(Protocol):
    """What a download needs of a file."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most so many; none at the end."""

    def close(self) -> None:
        """Give it back."""


T = TypeVar("T")


def answer(record: BaseModel, status: int = 200) -> HttpResponse:
    """A record as JSON. ninja would build it anew to check it; it has been checked when it was made."""
    return HttpResponse(record.__pydantic_serializer__.to_json(record), status=status, content_type="application/json")


def answer_list(kind: TypeAdapter[list[T]], records: list[T], status: int = 200) -> HttpResponse:
    """Several records as JSON."""
    return HttpResponse(kind.dump_json(records), status=status, content_type="application/json")


def download(file: Readable, path: str) -> FileResponse:
    """A file for saving: no browser may show or run what a task has written."""
    response = FileResponse(
        file, as_attachment=True, filename=PurePosixPath(path).name, content_type="application/octet-stream"
    )
    # Each block is a hop between threads.
    response.block_size = BLOCK_BYTES
    return inert(response, "private, no-cache")


def etag_of(content: bytes) -> str:
    """The entity tag (RFC 9110) of a state as it is told: the same bytes, the same tag."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def answer_state(request: HttpRequest, record: BaseModel, status: int = 200) -> HttpResponse:
    """A record that changes, as JSON with its ETag; 304 without a body when If-None-Match names that one."""
    response = answer(record, status)
    etag = etag_of(response.content)
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "private, no-cache"
    return cast(HttpResponse, get_conditional_response(request, etag=etag, response=response))


def check_unchanged(wanted: str, record: BaseModel) -> None:
    """Raise Changed unless ``If-Match`` (``wanted``) names the state that this record tells; a star names any."""
    tags = parse_etags(wanted)
    # A tag without its quotes names nothing; who sent one does not wish to change whatever is there.
    if tags != ["*"] and etag_of(answer(record).content) not in tags:
        raise Changed("it has changed since; look at it again")


class Accepted(Record):
    """The server has taken what was sent."""

    accepted: bool = True
