"""The table of failures to say who one is."""

from __future__ import annotations

from django.db import models


class Failures(models.Model):
    """Failures of one kind to log in, or to show a token, from one source; ``until`` ends the pause they cost.

    ``key`` is a kind and a hash: what people typed as their names may be passwords.
    """

    key = models.CharField(max_length=80, primary_key=True)
    number = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField(db_index=True)
    until = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "failures"

    def __str__(self) -> str:
        return f"{self.key}: {self.number}"
