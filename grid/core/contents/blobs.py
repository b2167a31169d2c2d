"""Blobs with their owners: who uploaded a content, or had a task make it, may use it and read it.

Contents that nothing uses are deleted (``grid.core.contents.sweeping``), which may happen while somebody sends the
same one again. So whoever is about to rely on one touches its row first: a deletion locks the row, and takes only
those that nobody has touched for some time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from django.db.models import Q

from grid.core.contents.store import Stored, get_store
from grid.core.models import Blob, BlobOwner
from grid.core.rows import insert

# A busy content is not written at each use; contents are kept longer than that without any.
TOUCH_SECONDS = 600.0


def keep(owner_id: int, chunks: Iterable[bytes], sha256: str | None, limit: int | None, *, now: datetime) -> Stored:
    """Store a content for its owner; raises SpecError when the hash is wrong, TooLarge over ``limit`` bytes.

    A content whose hash is not told is held in memory as a whole.
    """
    stored = store(chunks, sha256, limit, now)
    note(owner_id, [stored], now)
    return stored


def store(chunks: Iterable[bytes], sha256: str | None, limit: int | None, now: datetime) -> Stored:
    """Put a content into the store, so that no deletion which began before takes it away again. Errors as ``keep``."""
    if sha256 is None:
        chunks = [b"".join(chunks)]
        sha256 = hashlib.sha256(chunks[0]).hexdigest()
    # First the row, then the bytes: without a row nobody deletes them, and a fresh row nobody deletes.
    touch([sha256], now, at_least_seconds=0.0)
    return get_store().put(chunks, sha256, limit)


def touch(hashes: Collection[str], now: datetime, at_least_seconds: float = TOUCH_SECONDS) -> None:
    """Say that somebody relies on these contents; rows that were touched a short while ago are not written again."""
    before = now - timedelta(seconds=at_least_seconds)
    stale = Q(touched_at__isnull=True) | Q(touched_at__lte=before) | Q(doomed_at__isnull=False)
    rows = Blob.objects.filter(stale, sha256__in=hashes)
    # In one order for everybody: who touches the same contents at the same moment waits, but never in a circle.
    for sha256 in list(rows.order_by("sha256").values_list("sha256", flat=True)):
        Blob.objects.filter(sha256=sha256).update(touched_at=now, doomed_at=None)


def note(owner_id: int, stored: Iterable[Stored], now: datetime) -> None:
    """Note contents that the store holds as the owner's; those noted before are no fault."""
    # In one order for everybody: who notes the same contents at the same moment waits, but never in a circle.
    known = sorted(stored, key=lambda one: one.sha256)
    if not known:
        return
    insert((Blob(sha256=one.sha256, size=one.size, created_at=now, touched_at=now) for one in known), ignore_known=True)
    insert((BlobOwner(owner_id=owner_id, blob_id=one.sha256) for one in known), ignore_known=True)


def owned(owner_id: int, hashes: Iterable[str]) -> dict[str, int]:
    """Of the given contents those that the owner has, with their sizes."""
    rows = BlobOwner.objects.filter(owner_id=owner_id, blob_id__in=list(hashes)).values_list("blob_id", "blob__size")
    return dict(rows)


def relied_on(owner_id: int, hashes: Collection[str], now: datetime) -> dict[str, int]:
    """As ``owned``, for somebody who is going to use them: what is found stays for as long as nothing uses it."""
    touch(hashes, now)
    return owned(owner_id, hashes)
