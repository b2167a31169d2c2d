"""Delete contents that nothing uses any more from the store, safely against whoever sends or names them again.

In two steps. First the rows of contents without a task that takes them in or brought them back, and which nobody has
touched for some time, lose their owners and are marked as doomed: from then on nobody can name them in a task without
sending them first, which takes the mark away (``blobs.touch``). Later, under the lock of the row, the bytes are
deleted and then the row. A crash between the two leaves a row without bytes that nobody owns; the next step, or the
next upload, sets it right. A submit that had named the content before holds a reference by then, and keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from grid.core.contents.store import get_store
from grid.core.models import Blob, BlobOwner, InputFile, OutputFile, Reference
from grid.core.people import quotas
from grid.core.records import Transaction
from grid.core.rows import insert

# Uploads touch a row a moment before they look whether the bytes are there: that moment must be shorter.
LEAST_SECONDS = 60.0
# The store may be a network away, and the rows are locked meanwhile.
_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Grace:
    """For how long a content has to be unused, and for how long it has to be doomed, before its bytes go.

    ``named`` is for how long a reference (of kolejka's clients) keeps one, from when that was last read.
    """

    unused: timedelta
    doomed: timedelta = timedelta(seconds=LEAST_SECONDS)
    named: timedelta = timedelta(0)

    @classmethod
    def of_days(cls, days: float, named_days: float = 0.0) -> Grace:
        """So many days without use, a minute at the least."""
        return cls(max(timedelta(days=days), timedelta(seconds=LEAST_SECONDS)), named=timedelta(days=named_days))


def unused(now: datetime, grace: Grace) -> QuerySet[Blob]:
    """The contents that no task and no fresh reference uses, and that nobody has touched of late."""
    before = now - grace.unused
    old = Q(touched_at__lte=before) | Q(touched_at__isnull=True, created_at__lte=before)
    return Blob.objects.filter(
        old,
        ~Exists(Reference.objects.filter(blob_id=OuterRef("pk"), accessed_at__gt=now - grace.named)),
        ~Exists(InputFile.objects.filter(blob_id=OuterRef("pk"))),
        ~Exists(OutputFile.objects.filter(blob_id=OuterRef("pk"))),
        doomed_at=None,
    )


def doom(
    now: datetime, grace: Grace, *, after: str = "", window: int = 1000, moving: Transaction = transaction.atomic
) -> str:
    """Mark what is unused among the next contents behind ``after``; return where to go on, empty at the end."""
    walk = Blob.objects.filter(sha256__gt=after).order_by("sha256").values_list("sha256", flat=True)
    hashes = list(walk[:window])
    if hashes:
        found = list(
            unused(now, grace).filter(sha256__gt=after, sha256__lte=hashes[-1]).values_list("sha256", flat=True)
        )
        for begin in range(0, len(found), 100):
            with moving():
                _doom(found[begin : begin + 100], now, grace)
    return hashes[-1] if len(hashes) == window else ""


def _doom(hashes: list[str], now: datetime, grace: Grace) -> None:
    # Locked in one order, and looked at again under the lock: they may have been touched meanwhile.
    rows = unused(now, grace).filter(sha256__in=hashes).order_by("sha256")
    locked = list(rows.select_for_update(of=("self",)).values_list("sha256", flat=True))
    BlobOwner.objects.filter(blob_id__in=locked).delete()
    Blob.objects.filter(sha256__in=locked).update(doomed_at=now)


def delete_doomed(
    now: datetime, grace: Grace, limit: int = 500, moving: Transaction = transaction.atomic
) -> tuple[int, int]:
    """Delete the contents that have been doomed for long enough; return their number and their bytes."""
    due = Blob.objects.filter(doomed_at__lte=now - grace.doomed).order_by("sha256")
    hashes = list(due.values_list("sha256", flat=True)[:limit])
    number = size = 0
    for begin in range(0, len(hashes), _AT_ONCE):
        try:
            with moving():
                gone = _delete(hashes[begin : begin + _AT_ONCE], now, grace)
        except IntegrityError:
            # A task that names one of them was written at this moment. The bytes of others may be gone, but nobody
            # owns them; of the one that was named, the task's own commit has failed.
            continue
        number, size = number + len(gone), size + sum(gone)
    if number:
        quotas.forget()
    return number, size


def _delete(hashes: list[str], now: datetime, grace: Grace) -> list[int]:
    """Delete those that are still doomed and unused, under their locks; return their sizes."""
    rows = Blob.objects.select_for_update().filter(sha256__in=hashes, doomed_at__lte=now - grace.doomed)
    sizes = dict(rows.order_by("sha256").values_list("sha256", "size"))
    used = _owners_by_use(sizes)
    if used:
        _take_back(used, now)
    gone = [one for one in sizes if one not in used]
    for sha256 in gone:
        get_store().delete(sha256)
    BlobOwner.objects.filter(blob_id__in=gone).delete()
    Blob.objects.filter(sha256__in=gone).delete()
    return [sizes[one] for one in gone]


def _owners_by_use(hashes: Iterable[str]) -> dict[str, set[int]]:
    """Of the contents those that tasks use after all, with the owners of these tasks."""
    found: dict[str, set[int]] = {}
    names = list(hashes)
    taken = InputFile.objects.filter(blob_id__in=names).values_list("blob_id", "task__owner_id")
    brought = OutputFile.objects.filter(blob_id__in=names).values_list("blob_id", "attempt__task__owner_id")
    for sha256, owner_id in [*taken, *brought]:
        found.setdefault(sha256, set()).add(owner_id)
    return found


def _take_back(used: dict[str, set[int]], now: datetime) -> None:
    """The mark was set while a task that names the content was being written: it stays, and its owners with it."""
    Blob.objects.filter(sha256__in=used).update(doomed_at=None, touched_at=now)
    pairs = [(owner_id, sha256) for sha256, owners in sorted(used.items()) for owner_id in sorted(owners)]
    insert((BlobOwner(owner_id=owner_id, blob_id=sha256) for owner_id, sha256 in pairs), ignore_known=True)
