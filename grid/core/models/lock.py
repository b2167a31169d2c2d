"""A lease on a role, so that of several processes only one acts."""

from __future__ import annotations

from django.db import models


class Lock(models.Model):
    """Who holds a role until when. ``fence`` grows with every change of holder; writes under an older one are refused.

    ``address`` is where the holder can be woken (``host:port``, UDP).
    """

    name = models.CharField(max_length=50, primary_key=True)
    holder = models.CharField(max_length=100, default="")
    fence = models.BigIntegerField(default=0)
    until = models.DateTimeField(null=True)
    address = models.CharField(max_length=100, default="")

    def __str__(self) -> str:
        return f"{self.name} #{self.fence} {self.holder}"
