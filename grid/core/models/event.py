"""The timeline: every move of a task appends one row."""

from __future__ import annotations

from django.db import models

from grid.core.models.task import Task


class Event(models.Model):
    """Something happened to a task. The id grows over the whole grid."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    kind = models.CharField(max_length=24)
    data = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(fields=["task", "id"], name="event_task")]

    def __str__(self) -> str:
        return f"{self.task_id} {self.kind}"
