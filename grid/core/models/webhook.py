"""What is to be told to addresses that tasks name, how each try went, and what people wish to be told by e-mail."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from grid.core.ids import new_id
from grid.core.models.task import Task


class WebhookKey(models.Model):
    """The secret with which a user's webhooks are signed, sealed; the one before it signs too for a while."""

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    value = models.BinaryField()
    before = models.BinaryField(null=True)
    before_until = models.DateTimeField(null=True)
    changed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"webhook key of {self.owner_id}"


class Delivery(models.Model):
    """The outbox: one end of a task that is to be told. The id is that of the event, the same at each try.

    ``next_at`` is set while it is to be tried (again), ``host`` is the receiver's, by which tries are spread.
    """

    id = models.CharField(max_length=32, primary_key=True, default=new_id)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="deliveries")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    url = models.CharField(max_length=2000)
    host = models.CharField(max_length=300)
    state = models.CharField(max_length=10)
    made_at = models.DateTimeField()
    next_at = models.DateTimeField(null=True)
    tries = models.PositiveIntegerField(default=0)
    tries_left = models.PositiveIntegerField()

    class Meta:
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(fields=["next_at"], name="delivery_due", condition=Q(next_at__isnull=False)),
            models.Index(fields=["owner", "-id"], name="delivery_owner"),
            # Those that failed are few among many, and are what people look for.
            models.Index(fields=["state", "-id"], name="delivery_state"),
            models.Index(fields=["owner", "state", "-id"], name="delivery_owner_state"),
        ]

    def __str__(self) -> str:
        return f"{self.id} to {self.host}"


class DeliveryTry(models.Model):
    """One try: the receiver's status, or why there was none. What the receiver said beside it is not kept."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="log")
    number = models.PositiveIntegerField()
    at = models.DateTimeField()
    seconds = models.FloatField()
    status = models.PositiveSmallIntegerField(null=True)
    error = models.CharField(max_length=300, default="")

    def __str__(self) -> str:
        return f"try {self.number} of {self.delivery_id}"


class MailWish(models.Model):
    """A user who wishes an e-mail when tasks fail; ``pending`` counts what is not told yet, with some examples.

    ``since`` is the newest event at the time of the wish: what was before it is not told.
    """

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    since = models.BigIntegerField()
    pending = models.JSONField(default=dict)
    sent_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"e-mail to {self.owner_id}"
