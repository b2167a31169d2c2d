"""What the API shows of how people are told of the end of tasks: deliveries of webhooks, secrets, e-mail."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from tasks.model import Record


class DeliveryState(StrEnum):
    """How far the telling of a task's end has come: to be tried (again), taken by the receiver, or given up."""

    DUE = "due"
    DELIVERED = "delivered"
    FAILED = "failed"


class TryView(Record):
    """One try to tell: the receiver's status, or why there was none."""

    number: int
    at: datetime
    seconds: float
    status: int | None = None
    error: str = ""


class DeliveryView(Record):
    """One end of a task that is told to an address; ``id`` is the event's, the same at each try.

    ``next_at`` is the time of the next try while it is due. ``log`` has the tries, oldest first.
    """

    id: str
    task: str
    url: str
    state: DeliveryState
    made_at: datetime
    next_at: datetime | None = None
    tries: int
    tries_left: int
    log: tuple[TryView, ...] = ()


class DeliveryPage(Record):
    """A page of deliveries, newest first; ``next`` is the cursor of the following page, empty at the end."""

    items: tuple[DeliveryView, ...]
    next: str = ""


class WebhookSecretView(Record):
    """Whether there is a secret to sign with, since when, and until when the one before it signs too."""

    present: bool
    changed_at: datetime | None = None
    old_until: datetime | None = None


class NewWebhookSecret(Record):
    """A new signing secret, which is shown this once; the one before it signs too until ``old_until``."""

    secret: str
    old_until: datetime | None = None


class MailView(Record):
    """Whether one wishes an e-mail when tasks fail, to which address, and whether this server sends any."""

    on_failure: bool
    address: str
    server_sends: bool
