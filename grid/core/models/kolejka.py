"""What kolejka's protocol knows things by: references to contents, and the ids of tasks of an older server."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from grid.core.ids import new_id
from grid.core.models.blob import Blob
from grid.core.models.task import Task


class Reference(models.Model):
    """A name for a content. Several may stand for one content, and each is deleted by itself.

    ``public`` ones, which only an older server's database can bring along, may be read by everybody who is known here.
    """

    key = models.CharField(max_length=64, primary_key=True, default=new_id)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    blob = models.ForeignKey(Blob, on_delete=models.CASCADE, related_name="references")
    public = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    accessed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.key} to {self.blob_id}"


class OlderKey(models.Model):
    """The id that a task had on the server from which it was imported."""

    key = models.CharField(max_length=64, primary_key=True)
    task = models.OneToOneField(Task, on_delete=models.CASCADE, related_name="older_key")

    def __str__(self) -> str:
        return f"{self.key} is {self.task_id}"
