"""Nodes: the machines that run attempts."""

from __future__ import annotations

from django.db import models

from grid.celery import queue_of
from tasks.states import NodeMode

_MODES = [(mode.value, mode.value) for mode in NodeMode]


class Node(models.Model):
    """A machine that may run attempts; ``session`` is new at each start of its agent, ``facts`` is what it has.

    ``mode`` is the operator's word, with who said it, when and why. A node that was removed keeps its row, for the
    attempts on record name it; it has no token, and nobody sees it. ``foreign_cpus`` and ``foreign_memory`` are what
    others than the grid use of what it offers.
    """

    name = models.CharField(max_length=100, unique=True)
    session = models.CharField(max_length=64, default="")
    home = models.CharField(max_length=500, default="")
    facts = models.JSONField(default=dict)
    foreign_cpus = models.FloatField(default=0.0)
    foreign_memory = models.BigIntegerField(default=0)
    ready = models.BooleanField(default=False)
    not_ready_reason = models.CharField(max_length=500, default="")
    mode = models.CharField(max_length=10, choices=_MODES, default=NodeMode.OPEN)
    mode_by = models.CharField(max_length=150, default="")
    mode_at = models.DateTimeField(null=True)
    mode_reason = models.CharField(max_length=500, default="")
    drain_until = models.DateTimeField(null=True)
    last_seen = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        """The Celery queue that only this node reads."""
        return queue_of(self.name)


class NodeSample(models.Model):
    """How busy a node was in the ten minutes from ``at`` on: means over ``looks`` looks at it, one a minute.

    ``running`` is attempts; ``cpus`` and ``memory`` are the parts (0 to 1) of what it offers that attempts reserved,
    ``others`` the part of its processors that others than the grid used; ``online`` is the part of the looks at which
    it was heard of, ``ready`` that at which it took tasks.
    """

    id = models.BigAutoField(primary_key=True)
    node = models.ForeignKey(Node, on_delete=models.CASCADE, db_index=False, related_name="samples")
    at = models.DateTimeField()
    looks = models.PositiveSmallIntegerField()
    online = models.FloatField()
    ready = models.FloatField()
    running = models.FloatField()
    cpus = models.FloatField()
    memory = models.FloatField()
    others = models.FloatField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "at"], name="node_sample_once")]
        indexes = [models.Index(fields=["at"], name="node_sample_at")]

    def __str__(self) -> str:
        return f"{self.node_id} {self.at:%Y-%m-%d %H:%M}"
