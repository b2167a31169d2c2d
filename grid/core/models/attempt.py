"""Attempts to run a task on a node, and the files that came back."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from grid.core.ids import new_id
from grid.core.models.node import Node
from grid.core.models.task import Task
from tasks.states import AttemptState, Phase

_STATES = [(state.value, state.value) for state in AttemptState]
_PHASES = [(phase.value, phase.value) for phase in Phase]


class Attempt(models.Model):
    """One try of a task on one node.

    ``nonce`` travels in the broker message and opens the order once; ``token`` must come with every later word of the
    node. ``lease_until`` and ``phase_deadline`` are the server's promises that nothing stays running for ever.
    ``memory_bytes`` is the memory limit that it was given; ``decision`` says why the task was, or was not, tried again.
    """

    id = models.CharField(max_length=32, primary_key=True, default=new_id)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="attempts")
    state = models.CharField(max_length=10, choices=_STATES, default=AttemptState.ASSIGNED)
    phase = models.CharField(max_length=12, choices=_PHASES, default="")
    nonce = models.CharField(max_length=32)
    token = models.CharField(max_length=64)
    memory_bytes = models.BigIntegerField(null=True)
    session = models.CharField(max_length=64, default="")

    assigned_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField()
    phase_deadline = models.DateTimeField()
    cancel_sent_at = models.DateTimeField(null=True)

    verdict = models.CharField(max_length=20, default="")
    verdict_class = models.CharField(max_length=16, default="")
    reason = models.TextField(default="")
    advice = models.TextField(default="")
    decision = models.TextField(default="")
    exit_code = models.IntegerField(null=True)
    image_digest = models.CharField(max_length=200, default="")
    report = models.JSONField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["task", "number"], name="attempt_number"),
            models.UniqueConstraint(fields=["task"], condition=~Q(state="ended"), name="attempt_one_active"),
        ]
        indexes = [
            models.Index(fields=["node", "state"], name="attempt_active", condition=~Q(state="ended")),
            # SQLite uses the one above only for "not ended"; looks for one state must not read all that has ended.
            models.Index(fields=["state", "node"], name="attempt_state"),
            models.Index(fields=["verdict"], name="attempt_verdict"),
        ]

    def __str__(self) -> str:
        return f"{self.task_id} #{self.number}"


class OutputFile(models.Model):
    """A file that an attempt brought back; ``path`` is relative to the result folder."""

    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="outputs")
    path = models.CharField(max_length=4096)
    blob = models.ForeignKey("Blob", on_delete=models.PROTECT, related_name="+")
    executable = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(fields=["attempt", "path"], name="output_path")]

    def __str__(self) -> str:
        return self.path
