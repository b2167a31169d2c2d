"""Blobs with their owners: who uploaded a content, or had a task make it, may use it and read it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from grid.core.models import Blob, BlobOwner
from grid.core.rows import insert
from grid.core.store import Stored, get_store


def keep(owner_id: int, chunks: Iterable[bytes], sha256: str | None, limit: int | None, *, now: datetime) -> Stored:
    """Store a content for its owner; raises SpecError when the hash is wrong, TooLarge over ``limit`` bytes."""
    stored = get_store().put(chunks, sha256, limit)
    note(owner_id, [stored], now)
    return stored


def note(owner_id: int, stored: Iterable[Stored], now: datetime) -> None:
    """Note contents that the store holds as the owner's; those noted before are no fault."""
    # In one order for everybody: who notes the same contents at the same moment waits, but never in a circle.
    known = sorted(stored, key=lambda one: one.sha256)
    if not known:
        return
    insert((Blob(sha256=one.sha256, size=one.size, created_at=now) for one in known), ignore_known=True)
    insert((BlobOwner(owner_id=owner_id, blob_id=one.sha256) for one in known), ignore_known=True)


def owned(owner_id: int, hashes: Iterable[str]) -> dict[str, int]:
    """Of the given contents those that the owner has, with their sizes."""
    rows = BlobOwner.objects.filter(owner_id=owner_id, blob_id__in=list(hashes)).values_list("blob_id", "blob__size")
    return dict(rows)
