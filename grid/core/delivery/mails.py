"""E-mail to those who wish to hear of failed tasks: at most one in a while, however many tasks have failed.

Failures are found by following the events. What was found is added up in the row of who wishes it, together with the
place in the events, so that nothing is counted twice; a mail that was under way when the server died is not repeated.
"""

from __future__ import annotations

import logging
import smtplib
import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TypedDict

from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.db import DatabaseError, close_old_connections, connections, transaction
from django.utils import timezone

from grid.core.conf import GridSettings, conf
from grid.core.models import Event, MailWish, Mark, Task
from grid.core.reading.horizon import horizon, newest_number
from tasks.errors import Fault, SpecError
from tasks.notices import MailView
from tasks.verdicts import VerdictClass

logger = logging.getLogger(__name__)

MARK = "mails"
BATCH = 5000
MOST_EXAMPLES = 20
STEP_SECONDS = 5.0
STOP_SECONDS = 5.0
FAILURES = (VerdictClass.USER, VerdictClass.INFRASTRUCTURE)


class Example(TypedDict):
    """One failed task as a mail names it."""

    id: str
    name: str
    verdict: str
    reason: str


class Pending(TypedDict):
    """Failures that are not told yet: how many, by verdict, and the first of them."""

    count: int
    verdicts: dict[str, int]
    examples: list[Example]


class Mailer:
    """Steps in a thread of its own: a mail server may be slow."""

    def __init__(self, settings: GridSettings) -> None:
        self._settings = settings
        self._thread = threading.Thread(target=self._run, name="mailer", daemon=True)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin, if this server sends e-mail at all."""
        if self._settings.email_url:
            self._thread.start()

    def stop(self) -> None:
        """End after the current mail."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(STEP_SECONDS):
            close_old_connections()
            try:
                step(self._settings, timezone.now())
            except DatabaseError as error:
                logger.warning("no mail is sent: %s", error, extra={"action": "database_down"})
                connections.close_all()
        connections.close_all()


def step(settings: GridSettings, now: datetime) -> int:
    """Look for new failures and send the mails that are due; return how many were sent."""
    wishes = {wish.owner_id: wish for wish in MailWish.objects.all()}
    if not wishes:
        return 0
    _collect(wishes, now)
    sent = 0
    for wish in MailWish.objects.exclude(pending={}).select_related("owner"):
        pause = timedelta(seconds=settings.email_pause_seconds)
        if wish.sent_at is None or wish.sent_at + pause <= now:
            sent += _send(wish, settings, now)
    return sent


def _collect(wishes: dict[int, MailWish], now: datetime) -> None:
    """Add up what has failed since the last look; of two processes that do so the second changes nothing."""
    settled, _ = horizon.look()
    first = min(wish.since for wish in wishes.values())
    mark, _ = Mark.objects.get_or_create(name=MARK, defaults={"place": str(first), "at": now})
    # Nobody wished anything for a while: what lies before the first wish is nobody's.
    place = max(int(mark.place), first)
    # So many events, not so many numbers: where many were forgotten there are long holes.
    last = Event.objects.filter(id__gt=place, id__lte=settled).order_by("id").values_list("id", flat=True)
    end = next(iter(last[BATCH - 1 : BATCH]), settled)
    if end <= place:
        return
    found = Event.objects.filter(id__gt=place, id__lte=end, kind="finished", task__owner_id__in=list(wishes))
    failed = list(found.filter(task__verdict_class__in=FAILURES).select_related("task").order_by("id"))
    with transaction.atomic():
        if not Mark.objects.filter(name=MARK, place=mark.place).update(place=str(end), at=now):
            return
        rows = MailWish.objects.select_for_update().filter(owner_id__in={event.task.owner_id for event in failed})
        for wish in rows:
            mine = (event.task for event in failed if event.task.owner_id == wish.owner_id and event.id > wish.since)
            wish.pending = _added(wish.pending, mine)
            wish.save(update_fields=["pending"])


def _added(pending: Pending, tasks: Iterable[Task]) -> Pending | dict[str, object]:
    verdicts, examples = dict(pending.get("verdicts", {})), list(pending.get("examples", []))
    for task in tasks:
        verdicts[task.verdict] = verdicts.get(task.verdict, 0) + 1
        if len(examples) < MOST_EXAMPLES:
            examples.append(Example(id=task.id, name=task.name, verdict=task.verdict, reason=task.reason[:300]))
    if not verdicts:
        return {}
    return Pending(count=sum(verdicts.values()), verdicts=verdicts, examples=examples)


def _send(wish: MailWish, settings: GridSettings, now: datetime) -> bool:
    """Take what is pending, and send it; it is put back when the mail server does not take it."""
    pending = wish.pending
    if not MailWish.objects.filter(pk=wish.pk, sent_at=wish.sent_at).update(sent_at=now):
        return False
    with transaction.atomic():
        fresh = MailWish.objects.select_for_update().get(pk=wish.pk)
        pending, fresh.pending = fresh.pending, {}
        fresh.save(update_fields=["pending"])
    if not pending or not wish.owner.email or not wish.owner.is_active:
        return False
    message = EmailMessage(_subject(pending), _text(pending, settings), settings.email_from, [wish.owner.email])
    try:
        message.send()
    except (smtplib.SMTPException, OSError) as error:
        logger.warning("a mail is not sent: %s", error, extra={"action": "mail"})
        _put_back(wish.pk, pending)
        return False
    return True


def _put_back(pk: int, pending: Pending) -> None:
    with transaction.atomic():
        fresh = MailWish.objects.select_for_update().get(pk=pk)
        verdicts = dict(pending["verdicts"])
        for verdict, count in fresh.pending.get("verdicts", {}).items():
            verdicts[verdict] = verdicts.get(verdict, 0) + count
        examples = [*pending["examples"], *fresh.pending.get("examples", [])][:MOST_EXAMPLES]
        fresh.pending = Pending(count=sum(verdicts.values()), verdicts=verdicts, examples=examples)
        fresh.save(update_fields=["pending"])


def _subject(pending: Pending) -> str:
    if pending["count"] == 1:
        one = pending["examples"][0]
        return " ".join(f"[grid] {one['name']} failed: {one['verdict']}".split())[:200]
    return f"[grid] {pending['count']} tasks failed"


def _text(pending: Pending, settings: GridSettings) -> str:
    root = settings.public_url.rstrip("/")
    lines = [f"{verdict}: {count}" for verdict, count in sorted(pending["verdicts"].items())]
    lines.append("")
    for one in pending["examples"]:
        lines += [f"{one['name']}: {one['verdict']}", f"  {one['reason']}", f"  {root}/tasks/{one['id']}/"]
    if (more := pending["count"] - len(pending["examples"])) > 0:
        lines.append(f"and {more} more")
    lines += ["", "You asked for this with PUT /api/v1/mail; the same with false ends it."]
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------------ what users do


def view(user: User) -> MailView:
    """What the user wishes."""
    wished = MailWish.objects.filter(owner=user).exists()
    return MailView(on_failure=wished, address=user.email, server_sends=bool(conf().email_url))


def wish(user: User, on_failure: bool) -> MailView:
    """Wish mails from now on, or no more. Raises SpecError for who has no address."""
    if not on_failure:
        MailWish.objects.filter(owner=user).delete()
    elif not user.email:
        hint = "ask the operator to enter it"
        raise SpecError([Fault("on_failure", "your account has no e-mail address", hint)])
    else:
        MailWish.objects.get_or_create(owner=user, defaults={"since": newest_number()})
    return view(user)
