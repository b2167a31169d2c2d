"""What operators decided for users and groups, what was used of it, and how far periodic work has come."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q


class Policy(models.Model):
    """What is decided for one user, or for the members of one group; ``rules`` are those of ``tasks.terms.Rules``."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+")
    group = models.OneToOneField(Group, on_delete=models.CASCADE, null=True, related_name="+")
    rules = models.JSONField(default=dict)
    changed_at = models.DateTimeField()
    changed_by = models.CharField(max_length=150, default="")

    class Meta:
        verbose_name_plural = "policies"
        constraints = [
            models.CheckConstraint(
                name="policy_of_one",
                condition=Q(user__isnull=False, group__isnull=True) | Q(user__isnull=True, group__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"policy of user {self.user_id}" if self.user_id else f"policy of group {self.group_id}"


class CpuUse(models.Model):
    """Processor time that was reserved for a user's attempts which ended on a day (UTC), in seconds."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    day = models.DateField()
    seconds = models.FloatField(default=0.0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "day"], name="cpu_use_day")]

    def __str__(self) -> str:
        return f"{self.owner_id} {self.day}: {self.seconds:.0f} s"


class CpuSlice(models.Model):
    """Processor time that a user's ended attempts had reserved in the ten minutes from ``at`` on, in seconds.

    Kept for a day and a bit, for people who look at the queue; quotas are counted by ``CpuUse``.
    """

    id = models.BigAutoField(primary_key=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, db_index=False, related_name="+")
    at = models.DateTimeField()
    seconds = models.FloatField(default=0.0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "at"], name="cpu_slice_once")]
        # With all that sums need: they read the index alone.
        indexes = [models.Index(fields=["at", "owner", "seconds"], name="cpu_slice_at")]

    def __str__(self) -> str:
        return f"{self.owner_id} {self.at:%H:%M}: {self.seconds:.0f} s"


class Mark(models.Model):
    """How far a work that is done piece by piece has come: ``place`` is the last key, ``at`` when that was."""

    name = models.CharField(max_length=50, primary_key=True)
    place = models.CharField(max_length=100, default="")
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} {self.place}"


class OnlyAdded(models.QuerySet["AuditEntry"]):
    """Rows that nobody changes or removes."""

    def update(self, **values: object) -> int:
        """Refused."""
        raise TypeError("audit entries are not changed")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Refused."""
        raise TypeError("audit entries are not removed")


class AuditEntry(models.Model):
    """Who did what to what, when, from where. Rows are added, and neither changed nor removed."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150, default="")
    action = models.CharField(max_length=40)
    target = models.CharField(max_length=200, default="")
    address = models.CharField(max_length=64, default="")
    detail = models.JSONField(default=dict)

    objects = OnlyAdded.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["actor", "-id"], name="audit_actor"),
            models.Index(fields=["action", "-id"], name="audit_action"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Add the row; raises TypeError for one that is there."""
        if not self._state.adding:
            raise TypeError("audit entries are not changed")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refused."""
        raise TypeError("audit entries are not removed")
