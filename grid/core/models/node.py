"""Nodes: the machines that run attempts."""

from __future__ import annotations

from django.db import models


class Node(models.Model):
    """A machine that may run attempts; ``session`` is new at each start of its agent, ``facts`` is what it has."""

    name = models.CharField(max_length=100, unique=True)
    session = models.CharField(max_length=64, default="")
    home = models.CharField(max_length=500, default="")
    facts = models.JSONField(default=dict)
    ready = models.BooleanField(default=False)
    not_ready_reason = models.CharField(max_length=500, default="")
    drained = models.BooleanField(default=False)
    last_seen = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        """The Celery queue that only this node reads."""
        return f"node.{self.name}"
