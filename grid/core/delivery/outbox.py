"""The outbox of webhooks: what is to be told when a task ends, written with its end, settled by the courier.

A delivery that is being tried is claimed by moving its time ahead: of two couriers one gets it, and when that one dies
the claim lapses and the delivery is made again with the same event id.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q, QuerySet

from grid.core import secretbox
from grid.core.conf import GridSettings, conf
from grid.core.kolejka import shown
from grid.core.models import Delivery, DeliveryTry, Task, WebhookKey
from grid.core.people import access
from grid.core.reading import present
from tasks import cloudevents, webhook
from tasks.cloudevents import CloudEvent
from tasks.errors import Conflict, Fault, GridError, NotFound
from tasks.notices import DeliveryPage, DeliveryState, DeliveryView, NewWebhookSecret, TryView, WebhookSecretView
from tasks.webhook import Answer

SECRET_BYTES = 24
OVERLAP_SECONDS = 86_400.0
CLAIM_MARGIN_SECONDS = 30.0
MOST_OF_A_HOST = 4
"""Tries at one receiver at one time."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process tries now; ``until`` is when others may take it up again."""

    id: str
    url: str
    host: str
    until: datetime
    number: int


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent: the body, and the secrets that sign it."""

    body: bytes
    secrets: tuple[str, ...]


def url_faults(url: str, settings: GridSettings) -> list[Fault]:
    """Why this server would never post to an address, as far as it can be said without asking for its host."""
    if not settings.allow_callbacks:
        return [Fault("callback_url", "this server sends no callbacks", "leave it out and wait for the task instead")]
    host = urlsplit(url).hostname or ""
    try:
        ip_address(host)
    except ValueError:
        inner = host == "localhost" or host.endswith(".localhost")
    else:
        inner = not webhook.is_public(host)
    if inner and not host_allowed(host, settings):
        hint = "name one on the open internet, or ask the operator to allow it"
        return [Fault("callback_url", f"{host} is not an address to which this server posts", hint)]
    return []


def host_allowed(host: str, settings: GridSettings) -> bool:
    """Whether a host may be posted to although its address is an inner one."""
    return any(fnmatchcase(host.lower(), pattern.lower()) for pattern in settings.callback_hosts)


def note(task_id: str, now: datetime) -> None:
    """Put the end of a task into the outbox if it is to be told; belongs into the transaction that ends it."""
    asked = Task.objects.filter(id=task_id, spec__has_key="callback_url")
    found = asked.values_list("spec__callback_url", "owner_id").first()
    if found is None or not found[0]:
        return
    url, owner_id = found
    Delivery.objects.create(
        task_id=task_id,
        owner_id=owner_id,
        url=url,
        host=(urlsplit(url).netloc.rpartition("@")[2])[:300].lower(),
        state=DeliveryState.DUE,
        made_at=now,
        next_at=now,
        tries_left=conf().callback_tries,
    )


def claim(settings: GridSettings, now: datetime, room: int, at: Mapping[str, int]) -> list[Claim]:
    """Take up to ``room`` deliveries that are due; ``at`` are the tries that are being made now, by host.

    No host gets more than its share, however much is due to it: the others need not wait behind it.
    """
    counts = dict(at)
    until = now + timedelta(seconds=settings.callback_seconds + CLAIM_MARGIN_SECONDS)
    taken: list[Claim] = []
    while len(taken) < room:
        full = [host for host, count in counts.items() if count >= MOST_OF_A_HOST]
        due = Delivery.objects.filter(next_at__lte=now).exclude(host__in=full).order_by("next_at")
        found = list(due[: room - len(taken)])
        for one in found:
            if counts.get(one.host, 0) >= MOST_OF_A_HOST:
                continue
            counts[one.host] = counts.get(one.host, 0) + 1
            if Delivery.objects.filter(id=one.id, next_at=one.next_at).update(next_at=until):
                taken.append(Claim(one.id, one.url, one.host, until, one.tries + 1))
        if not found:
            break
    return taken


def parcel(delivery_id: str, settings: GridSettings, now: datetime) -> Parcel:
    """What to send for a delivery; raises NotFound when it is gone, GridError when nothing can sign it."""
    rows = Delivery.objects.select_related("task__owner", "task__attempt")
    found = rows.filter(id=delivery_id).first()
    if found is None:
        raise NotFound(f"there is no delivery {delivery_id}")
    key = WebhookKey.objects.filter(owner_id=found.owner_id).first()
    if key is None:
        raise GridError("there is no secret to sign with; make one")
    sealed = [key.value]
    if key.before is not None and key.before_until is not None and key.before_until > now:
        sealed.append(key.before)
    body = json.dumps(_body(found, settings), separators=(",", ":")).encode()
    return Parcel(body, tuple(secretbox.unseal(bytes(one)) for one in sealed))


def _body(delivery: Delivery, settings: GridSettings) -> dict[str, Any]:
    """The event; who asked in kolejka's words is told in these, signed like the others."""
    task = delivery.task
    if shown.spoke_kolejka(task):
        return {"task": shown.task_json(task), "result": shown.result_json(task)}
    return _event(delivery, settings).model_dump(mode="json")


def _event(delivery: Delivery, settings: GridSettings) -> CloudEvent:
    task, root = delivery.task, settings.public_url.rstrip("/")
    return CloudEvent(
        id=delivery.id,
        source=root,
        type=cloudevents.FINISHED,
        subject=task.id,
        time=task.finished_at or delivery.made_at,
        data=cloudevents.FinishedTask(
            task=present.task_view(task),
            result=f"{root}/api/v1/tasks/{task.id}/result",
            page=f"{root}/tasks/{task.id}/",
        ),
    )


def settle(claimed: Claim, answer: Answer, seconds: float, settings: GridSettings, now: datetime) -> None:
    """Note how a try went, and whether there is another one; a delivery that was renewed meanwhile stays due."""
    wait = webhook.delay_seconds(claimed.number, answer, settings.callback_delay_seconds)
    with transaction.atomic():
        mine = Delivery.objects.filter(id=claimed.id)
        if not mine.update(tries=F("tries") + 1, tries_left=F("tries_left") - 1):
            return
        DeliveryTry.objects.create(
            delivery_id=claimed.id,
            number=claimed.number,
            at=now,
            seconds=round(seconds, 3),
            status=answer.status,
            error=answer.error[:300],
        )
        left = mine.values_list("tries_left", flat=True)[0]
        if answer.accepted:
            changes: dict[str, object] = {"state": DeliveryState.DELIVERED, "next_at": None}
        elif wait is None or left <= 0:
            changes = {"state": DeliveryState.FAILED, "next_at": None}
        else:
            changes = {"next_at": now + timedelta(seconds=wait)}
        mine.filter(next_at=claimed.until).update(**changes)


# ------------------------------------------------------------------------------------------------------ what users do


def has_key(owner_id: int) -> bool:
    """Whether the user has a secret to sign with."""
    return WebhookKey.objects.filter(owner_id=owner_id).exists()


def key_view(owner: User) -> WebhookSecretView:
    """What is known of the user's secret, without its text."""
    key = WebhookKey.objects.filter(owner=owner).first()
    if key is None:
        return WebhookSecretView(present=False)
    return WebhookSecretView(present=True, changed_at=key.changed_at, old_until=key.before_until)


def make_key(owner: User, now: datetime, overlap_seconds: float = OVERLAP_SECONDS) -> NewWebhookSecret:
    """Make a secret, or a new one in place of the old, which signs too for ``overlap_seconds``."""
    clear = webhook.new_secret(secrets.token_bytes(SECRET_BYTES))
    with transaction.atomic():
        old = WebhookKey.objects.select_for_update().filter(owner=owner).first()
        until = now + timedelta(seconds=overlap_seconds) if old is not None and overlap_seconds else None
        values = {
            "value": secretbox.seal(clear),
            "before": old.value if old is not None and until else None,
            "before_until": until,
            "changed_at": now,
        }
        WebhookKey.objects.update_or_create(owner=owner, defaults=values)
    return NewWebhookSecret(secret=clear, old_until=until)


def visible(user: User) -> QuerySet[Delivery]:
    """The deliveries that the user may see: staff all, others those of their own tasks."""
    return Delivery.objects.all() if access.sight(user).everything else Delivery.objects.filter(owner=user)


def page(user: User, state: str, after: str, limit: int) -> DeliveryPage:
    """Deliveries, newest first, from behind the cursor ``after`` on, without their tries."""
    rows = visible(user)
    rows = rows.filter(state=state) if state else rows
    rows = rows.filter(id__lt=after) if after else rows
    found = list(rows.order_by("-id")[: limit + 1])
    return DeliveryPage(
        items=tuple(_view(one) for one in found[:limit]), next=found[limit - 1].id if len(found) > limit else ""
    )


def of_task(task: Task) -> list[DeliveryView]:
    """The deliveries of a task with their tries, newest first: two queries."""
    rows = Delivery.objects.filter(task=task).order_by("-id").prefetch_related("log")
    return [_view(one, with_log=True) for one in rows]


def get(user: User, delivery_id: str) -> DeliveryView:
    """One delivery with its tries; raises NotFound also when it is somebody else's."""
    found = visible(user).filter(id=delivery_id).prefetch_related("log").first()
    if found is None:
        raise NotFound(f"there is no delivery {delivery_id}, or it is not yours")
    return _view(found, with_log=True)


def redeliver(user: User, delivery_id: str, now: datetime) -> DeliveryView:
    """Tell it again, at once and with all tries anew. Raises NotFound, and Conflict while it is due anyway at once."""
    rows = visible(user).filter(id=delivery_id)
    if not rows.filter(Q(next_at__isnull=True) | Q(next_at__gt=now)).update(
        state=DeliveryState.DUE, next_at=now, tries_left=conf().callback_tries
    ):
        get(user, delivery_id)
        raise Conflict(f"the delivery {delivery_id} is about to be tried")
    return get(user, delivery_id)


def _view(row: Delivery, *, with_log: bool = False) -> DeliveryView:
    tries = sorted(row.log.all(), key=lambda one: one.pk) if with_log else []
    return DeliveryView(
        id=row.id,
        task=row.task_id,
        url=row.url,
        state=DeliveryState(row.state),
        made_at=row.made_at,
        next_at=row.next_at,
        tries=row.tries,
        tries_left=row.tries_left,
        log=tuple(
            TryView(number=one.number, at=one.at, seconds=one.seconds, status=one.status, error=one.error)
            for one in tries
        ),
    )
