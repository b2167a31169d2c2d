"""kolejka's references: names of contents, each with an owner, each deleted by itself.

A sha256 is a reference too, to whoever may read the content: results and tasks are told with these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from tempfile import SpooledTemporaryFile

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet

from grid.core import intake
from grid.core.conf import conf
from grid.core.contents import blobs
from grid.core.contents.content import Content, Stored
from grid.core.models import Attempt, Blob, BlobOwner, InputFile, OutputFile, Reference
from grid.core.people import access, quotas
from tasks.errors import Conflict, NotAllowed, NotFound
from tasks.states import AttemptState

_SHA256_DIGITS = 64
_ACCESS = timedelta(minutes=10)
_IN_MEMORY = 1024**2
_BLOCK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Named:
    """A reference and its content."""

    key: str
    sha256: str
    size: int
    created_at: datetime
    accessed_at: datetime
    mine: bool = True


def foreman_home(user: User) -> str:
    """What the homes of all nodes begin with that are foremen of this account."""
    return f"kolejka:{user.pk}:"


def may_read(user: User, sha256: str) -> bool:
    """Whether a content may be read: as everywhere, and by a foreman for a task that it has now."""
    if access.may_read_blob(user, sha256):
        return True
    if not access.sight(user).processes:
        return False
    held = Attempt.objects.filter(node__home__startswith=foreman_home(user)).exclude(state=AttemptState.ENDED)
    return InputFile.objects.filter(blob_id=sha256, task__in=held.values("task")).exists()


def upload(user: User, chunks: Iterable[bytes], now: datetime) -> Named:
    """Store a content and name it. Raises NotAllowed, TooLarge.

    Foremen store what tasks of others made: it counts against the owner of the task as soon as it is reported.
    """
    found, most = access.sight(user), conf().max_blob_bytes
    if not found.processes:
        access.check_submit(user)
        room = quotas.room_to_store(user.pk, now)
        most = most if room is None else min(room, most)
    conf().dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Its hash is known only at its end, and the store is told of it first: so it goes through a file.
    with SpooledTemporaryFile(_IN_MEMORY, dir=str(conf().dir)) as file:
        body = Content(chunks, None, most)
        for chunk in body:
            file.write(chunk)
        file.seek(0)
        again = iter(partial(file.read, _BLOCK), b"")
        if found.submits:
            stored = intake.upload(user, again, body.stored.sha256, now)
        else:
            stored = blobs.keep(user.pk, again, body.stored.sha256, most, now=now)
    return _named(_make(user, stored.sha256, now), stored.size)


def again(user: User, sha256: str, now: datetime) -> Named:
    """One more name for a content that the user may read; raises NotFound for any other."""
    blob = Blob.objects.filter(sha256=sha256, doomed_at=None).first()
    if blob is None or not may_read(user, sha256):
        raise NotFound(f"there is no content {sha256}, or it is not yours")
    with transaction.atomic():
        blobs.touch([sha256], now)
        blobs.note(user.pk, [Stored(sha256, blob.size)], now)
        return _named(_make(user, sha256, now), blob.size)


def _make(user: User, sha256: str, now: datetime) -> Reference:
    return Reference.objects.create(owner=user, blob_id=sha256, created_at=now, accessed_at=now)


def get(user: User, key: str, now: datetime) -> Named:
    """What a key stands for, to somebody who may read it; raises NotFound."""
    row = _readable(user).filter(key=key).select_related("blob").first()
    if row is not None:
        Reference.objects.filter(key=key, accessed_at__lt=now - _ACCESS).update(accessed_at=now)
        return _named(row, row.blob.size, mine=row.owner_id == user.pk)
    blob = Blob.objects.filter(sha256=key).first() if len(key) == _SHA256_DIGITS else None
    if blob is None or not may_read(user, key):
        raise NotFound(f"there is no reference {key}, or it is not yours")
    return Named(key, key, blob.size, blob.created_at, blob.touched_at or blob.created_at, mine=False)


def content(user: User, sha256: str) -> tuple[Named, int]:
    """A content that the user may read, and how many references to it there are; raises NotFound."""
    blob = Blob.objects.filter(sha256=sha256).first()
    if blob is None or not may_read(user, sha256):
        raise NotFound(f"there is no content {sha256}, or it is not yours")
    named = Named(sha256, sha256, blob.size, blob.created_at, blob.touched_at or blob.created_at, mine=False)
    return named, Reference.objects.filter(blob=blob).count()


def resolve(user: User, keys: Collection[str], now: datetime) -> dict[str, str]:
    """The contents that the keys stand for, noted as the user's; keys that stand for nothing of theirs are left out."""
    rows = _readable(user).filter(key__in=keys).values_list("key", "blob_id")
    found = {key: sha256 for key, sha256 in rows if Blob.objects.filter(sha256=sha256, doomed_at=None).exists()}
    for key in keys:
        if key not in found and len(key) == _SHA256_DIGITS and may_read(user, key):
            found[key] = key
    blobs.touch(sorted(set(found.values())), now)
    sizes = Blob.objects.filter(sha256__in=found.values()).values_list("sha256", "size")
    with transaction.atomic():
        blobs.note(user.pk, [Stored(sha256, size) for sha256, size in sizes], now)
    return found


def delete(user: User, key: str) -> None:
    """Delete a reference; the content goes later, when nothing uses it. Raises NotFound, NotAllowed.

    What tasks take in or brought back stays theirs: a sha256 is no reference of its own that could be deleted.
    """
    row = _readable(user).filter(key=key).first()
    if row is None:
        raise NotFound(f"there is no reference {key}, or it is not yours")
    if row.owner_id != user.pk and not access.sight(user).manages:
        raise NotAllowed(f"the reference {key} is not yours")
    row.delete()


def delete_content(user: User, sha256: str, now: datetime) -> None:
    """Delete a content with all its references. Raises NotAllowed, NotFound, and Conflict while a task uses it."""
    if not access.sight(user).manages:
        raise NotAllowed("only managers may delete contents")
    with transaction.atomic():
        blob = Blob.objects.select_for_update().filter(sha256=sha256).first()
        if blob is None:
            raise NotFound(f"there is no content {sha256}")
        if any(kind.objects.filter(blob=blob).exists() for kind in (InputFile, OutputFile)):
            raise Conflict(f"the content {sha256} is used by tasks; remove these first")
        Reference.objects.filter(blob=blob).delete()
        BlobOwner.objects.filter(blob=blob).delete()
        # Its bytes go with the next sweep, as those of all contents that nothing uses.
        Blob.objects.filter(sha256=sha256).update(doomed_at=now)
    quotas.forget()


def hand_over(user: User, owner_id: int, found: Mapping[str, str], now: datetime) -> None:
    """Make what a foreman stored (contents by reference) that of the task's owner; belongs into a transaction."""
    files = sorted(set(found.values()))
    sizes = dict(Blob.objects.filter(sha256__in=files).values_list("sha256", "size"))
    blobs.note(owner_id, [Stored(sha256, size) for sha256, size in sizes.items()], now)
    if user.pk == owner_id:
        return
    Reference.objects.filter(owner=user, key__in=found).update(owner_id=owner_id)
    used = Q(blob__in=Reference.objects.filter(owner=user, blob_id__in=files).values("blob"))
    used |= Q(blob__in=InputFile.objects.filter(task__owner=user, blob_id__in=files).values("blob"))
    used |= Q(blob__in=OutputFile.objects.filter(attempt__task__owner=user, blob_id__in=files).values("blob"))
    BlobOwner.objects.filter(owner=user, blob_id__in=files).exclude(used).delete()


def _readable(user: User) -> QuerySet[Reference]:
    if access.sight(user).everything:
        return Reference.objects.all()
    return Reference.objects.filter(Q(owner=user) | Q(public=True))


def _named(row: Reference, size: int, *, mine: bool = True) -> Named:
    return Named(row.key, row.blob_id, size, row.created_at, row.accessed_at, mine)
