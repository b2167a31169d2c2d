"""Tasks, what they demand of a node, their input files, and what they wait for."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q

from grid.core.ids import new_id
from tasks.states import TaskState

_STATES = [(state.value, state.value) for state in TaskState]


class Demand(models.Model):
    """What a class of equal tasks needs of a node; all tasks of one owner with the same needs share one row.

    The dispatcher looks at demands, not at tasks, so that its cost does not grow with the length of the queue.
    ``active`` is True while there may be queued tasks of it.
    """

    key = models.CharField(max_length=64, primary_key=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    data = models.JSONField()
    active = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(fields=["key"], name="demand_active", condition=Q(active=True))]

    def __str__(self) -> str:
        return self.key


class Task(models.Model):
    """One task: what was asked, where it is on its way, and what became of it.

    ``likeness`` is what it has in common with similar tasks (``tasks.usual``).
    """

    id = models.CharField(max_length=32, primary_key=True, default=new_id)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="tasks")
    name = models.CharField(max_length=200)
    labels = models.JSONField(default=dict)
    priority = models.SmallIntegerField(default=0)
    state = models.CharField(max_length=12, choices=_STATES)
    spec = models.JSONField()
    spec_hash = models.CharField(max_length=64)
    likeness = models.CharField(max_length=16, default="")
    limits = models.JSONField()
    demand = models.ForeignKey(Demand, on_delete=models.PROTECT, related_name="tasks")
    avoid = models.JSONField(default=list)
    idempotency_key = models.CharField(max_length=200, default="")
    shared_with = models.ForeignKey(Group, on_delete=models.SET_NULL, null=True, db_index=False, related_name="+")

    created_at = models.DateTimeField()
    queued_at = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    cancel_requested_at = models.DateTimeField(null=True)
    cancel_by = models.CharField(max_length=150, default="")
    cancel_reason = models.CharField(max_length=500, default="")

    attempt = models.OneToOneField("Attempt", on_delete=models.SET_NULL, null=True, related_name="current_of")
    attempts_made = models.PositiveSmallIntegerField(default=0)
    node_name = models.CharField(max_length=100, default="")

    verdict = models.CharField(max_length=20, default="")
    verdict_class = models.CharField(max_length=16, default="")
    reason = models.TextField(default="")
    advice = models.TextField(default="")
    exit_code = models.IntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "idempotency_key"], condition=~Q(idempotency_key=""), name="task_idempotency"
            ),
        ]
        indexes = [
            # The state comes first although the condition names it: without statistics SQLite takes the index with the
            # most columns that are compared, and would read all that is queued to find the first of one demand. And a
            # second state is in the condition, of which there are few: PostgreSQL does not look a column up that its
            # condition fixes, and would walk the whole index for each demand.
            models.Index(
                fields=["state", "demand", "id"], name="task_queued", condition=Q(state="queued") | Q(state="waiting")
            ),
            models.Index(fields=["state", "not_before"], name="task_delayed", condition=Q(not_before__isnull=False)),
            models.Index(fields=["state", "expires_at"], name="task_expiring", condition=Q(expires_at__isnull=False)),
            models.Index(fields=["owner", "-id"], name="task_owner"),
            models.Index(fields=["owner", "state"], name="task_open", condition=Q(finished_at__isnull=True)),
            models.Index(fields=["shared_with", "-id"], name="task_shared", condition=Q(shared_with__isnull=False)),
            models.Index(fields=["state", "-id"], name="task_state"),
            models.Index(fields=["verdict", "-id"], name="task_verdict"),
            models.Index(fields=["node_name", "-id"], name="task_node"),
            # Only what has ended can be learnt from; however much of the same kind is queued, it is not in the way.
            models.Index(
                fields=["owner", "likeness", "-id"], name="task_likeness", condition=Q(finished_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


class Dependency(models.Model):
    """``task`` waits until ``needs`` has succeeded."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="needs")
    needs = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="children")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "needs"], name="dependency_once")]

    def __str__(self) -> str:
        return f"{self.task_id} after {self.needs_id}"


class InputFile(models.Model):
    """A file that is put into the task folder under ``path``."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="inputs")
    path = models.CharField(max_length=1024)
    blob = models.ForeignKey("Blob", on_delete=models.PROTECT, related_name="+")
    executable = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "path"], name="input_once")]

    def __str__(self) -> str:
        return self.path
