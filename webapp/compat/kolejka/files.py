"""Contents of files: references to them, and the contents by their hash."""

from __future__ import annotations

import re
from typing import Any

from django.http import FileResponse, HttpResponseBase
from django.utils import timezone

from grid.core.contents.store import get_store
from grid.core.kolejka import references
from grid.core.kolejka.references import Named
from tasks.errors import NotAllowed, NotFound
from webapp.api.answers import download
from webapp.api.blobs import body_of
from webapp.auth import Request
from webapp.compat.kolejka.door import ok, only

_KEY = re.compile(r"[0-9A-Za-z_.-]{1,64}", re.ASCII)


@only("POST", "PUT", "GET", "HEAD", "DELETE")
def reference(request: Request, key: str = "") -> HttpResponseBase:
    """POST stores the raw body and names it; the others tell of, read and delete a name."""
    user, now = request.auth.user, timezone.now()
    if request.method == "POST":
        if key:
            raise NotAllowed("a new reference has no name yet")
        return ok(reference=_told(references.upload(user, body_of(request), now)))
    _check(key)
    if request.method == "DELETE":
        references.delete(user, key)
        return ok(deleted=True)
    named = references.get(user, key, now)
    return ok(reference=_told(named)) if request.method == "PUT" else _content(named)


@only("POST", "PUT", "GET", "HEAD", "DELETE")
def blob(request: Request, key: str) -> HttpResponseBase:
    """POST names a content that is there; a content that the caller may not read is answered as if it were not."""
    user, now = request.auth.user, timezone.now()
    _check(key)
    if request.method == "POST":
        return ok(reference=_told(references.again(user, key.lower(), now)))
    if request.method == "DELETE":
        references.delete_content(user, key, now)
        return ok(deleted=True)
    named, number = references.content(user, key)
    if request.method != "PUT":
        return _content(named)
    told = _told(named)
    del told["blob"]
    return ok(blob={**told, "references": number})


def _check(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise NotFound("there is nothing of this name")


def _told(named: Named) -> dict[str, Any]:
    return {
        "key": named.key,
        "blob": named.sha256,
        "size": named.size,
        "time_create": named.created_at,
        "time_access": named.accessed_at,
    }


def _content(named: Named) -> FileResponse:
    return download(get_store().open(named.sha256), named.key)
