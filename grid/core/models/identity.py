"""The table of accounts that somebody else vouches for."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Identity(models.Model):
    """Who an account is to an external log-in: ``subject`` is its lasting name for them, never reused."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="identities")
    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)

    class Meta:
        verbose_name_plural = "identities"
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="identity_once")]

    def __str__(self) -> str:
        return f"{self.subject} at {self.issuer}"
