"""Contents of files, each stored once and private to those who may read a task that uses it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class Blob(models.Model):
    """A content by its hash; the bytes are in the store.

    ``touched_at`` is when somebody last sent it or asked whether it is there; ``doomed_at`` is set once nothing uses it
    any more and it is about to be deleted.
    """

    sha256 = models.CharField(max_length=64, primary_key=True)
    size = models.BigIntegerField()
    created_at = models.DateTimeField()
    touched_at = models.DateTimeField(null=True)
    doomed_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["sha256"], name="blob_doomed", condition=Q(doomed_at__isnull=False))]

    def __str__(self) -> str:
        return self.sha256


class BlobOwner(models.Model):
    """``owner`` proved to have the content (uploaded it, or a task of theirs made it) and may use it in tasks.

    Knowing a hash is not enough: otherwise whoever guesses a hash could read somebody else's file.
    """

    blob = models.ForeignKey(Blob, on_delete=models.CASCADE, related_name="owners")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="blobs")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "blob"], name="blob_owner_once")]

    def __str__(self) -> str:
        return f"{self.owner_id}: {self.blob_id}"
