"""What opens a door: tokens of people and nodes, and secrets of tasks."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from grid.core.models.node import Node


class Token(models.Model):
    """A bearer token; only the hash is stored. A token with a ``node`` speaks for that node."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    node = models.ForeignKey(Node, on_delete=models.CASCADE, null=True, related_name="tokens")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.name} of {self.owner_id}"


class Secret(models.Model):
    """A value that tasks of its owner may name; it is encrypted at rest and never shown again."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=200)
    value = models.BinaryField()
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="secret_once")]

    def __str__(self) -> str:
        return self.name
