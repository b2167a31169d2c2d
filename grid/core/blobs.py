"""Blobs with their owners: who uploaded a content, or had a task make it, may use it and read it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.contrib.auth.models import User

from grid.core.models import Blob, BlobOwner
from grid.core.store import Stored, get_store


def keep(owner: User, chunks: Iterable[bytes], sha256: str | None, limit: int | None, *, now: datetime) -> Stored:
    """Store a content for ``owner``; raises SpecError when the hash is wrong, TooLarge over ``limit`` bytes."""
    stored = get_store().put(chunks, sha256, limit)
    Blob.objects.get_or_create(sha256=stored.sha256, defaults={"size": stored.size, "created_at": now})
    BlobOwner.objects.get_or_create(owner=owner, blob_id=stored.sha256)
    return stored


def owned(owner: User, hashes: Iterable[str]) -> dict[str, int]:
    """Of the given contents those that ``owner`` has, with their sizes."""
    rows = BlobOwner.objects.filter(owner=owner, blob_id__in=list(hashes)).values_list("blob_id", "blob__size")
    return dict(rows)
