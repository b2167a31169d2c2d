"""How one is told of the end of tasks: signed webhooks with their log, and e-mail on failure."""

from __future__ import annotations

from typing import Annotated, Literal

from django.http import HttpResponse
from django.utils import timezone
from ninja import Path, Query, Router
from pydantic import Field, TypeAdapter

from grid.core.delivery import mails, outbox
from grid.core.people import access
from grid.core.people.tokens import Scope
from tasks.model import Record
from tasks.notices import DeliveryPage, DeliveryView, MailView, NewWebhookSecret, WebhookSecretView
from webapp.api.answers import answer, answer_list
from webapp.api.tasks import TaskId
from webapp.auth import Allow, Request

DeliveryId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]

router = Router(tags=["notices"])

_DELIVERIES = TypeAdapter(list[DeliveryView])


class SecretBody(Record):
    """For how many seconds deliveries are signed with the old secret too, so that receivers can change over."""

    overlap_seconds: float = Field(default=outbox.OVERLAP_SECONDS, ge=0, le=30 * 86_400)


class DeliveryFilters(Record):
    """What the list is narrowed to, and where it goes on."""

    state: Literal["", "due", "delivered", "failed"] = ""
    limit: int = Field(default=50, ge=1, le=200)
    after: str = Field(default="", max_length=32, description="the cursor that the page before gave as next")


class MailBody(Record):
    """Whether an e-mail is wished when tasks fail."""

    on_failure: bool


@router.get("/webhooks/secret", auth=Allow(Scope.READ), response=WebhookSecretView)
def secret(request: Request) -> HttpResponse:
    """Whether you have a secret with which your webhooks are signed; its text is shown nowhere."""
    return answer(outbox.key_view(request.auth.user))


@router.post("/webhooks/secret", auth=Allow(Scope.SUBMIT), response={201: NewWebhookSecret})
def new_secret(request: Request, body: SecretBody) -> HttpResponse:
    """Make a secret, or a new one in place of the old; it is in the answer, and nowhere else."""
    return answer(outbox.make_key(request.auth.user, timezone.now(), body.overlap_seconds), 201)


@router.get("/webhooks/deliveries", auth=Allow(Scope.READ), response=DeliveryPage)
def deliveries(request: Request, filters: Query[DeliveryFilters]) -> HttpResponse:
    """A page of the deliveries of your tasks (for staff: of all), newest first, without their tries."""
    return answer(outbox.page(request.auth.user, filters.state, filters.after, filters.limit))


@router.get("/webhooks/deliveries/{delivery_id}", auth=Allow(Scope.READ), response=DeliveryView)
def delivery(request: Request, delivery_id: DeliveryId) -> HttpResponse:
    """One delivery with its tries."""
    return answer(outbox.get(request.auth.user, delivery_id))


@router.post("/webhooks/deliveries/{delivery_id}/redeliver", auth=Allow(Scope.SUBMIT), response=DeliveryView)
def redeliver(request: Request, delivery_id: DeliveryId) -> HttpResponse:
    """Tell it again at once, with the same event id and all tries anew; 409 while it is about to be tried anyway."""
    return answer(outbox.redeliver(request.auth.user, delivery_id, timezone.now()))


@router.get("/tasks/{task_id}/deliveries", auth=Allow(Scope.READ), response=list[DeliveryView])
def of_task(request: Request, task_id: TaskId) -> HttpResponse:
    """Where the end of the task was told, with every try; only for those who may change the task."""
    task = access.own_task(request.auth.user, task_id)
    return answer_list(_DELIVERIES, outbox.of_task(task))


@router.get("/mail", auth=Allow(Scope.READ), response=MailView)
def mail(request: Request) -> HttpResponse:
    """Whether you get an e-mail when tasks of yours fail, and at which address."""
    return answer(mails.view(request.auth.user))


@router.put("/mail", auth=Allow(Scope.SUBMIT), response=MailView)
def wish_mail(request: Request, body: MailBody) -> HttpResponse:
    """Wish e-mails from now on, or no more; however many tasks fail, there is one in a quarter of an hour at most."""
    return answer(mails.wish(request.auth.user, body.on_failure))
