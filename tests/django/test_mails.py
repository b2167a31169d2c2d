"""E-mail on failure: only to who wishes it, only of failures, and one for however many."""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage
from django.utils import timezone

from grid.core.conf import GridSettings, SettingsError
from grid.core.delivery import mails
from grid.core.models import Event, MailWish, Task
from tests.django import builders as given
from tests.django import doors
from webapp import settings as web_settings

# Real transactions: events are settled when whoever wrote them has ended.
pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()


class Refusing(BaseEmailBackend):
    """A mail server that takes nothing."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        raise smtplib.SMTPServerDisconnected("gone")


@pytest.fixture(autouse=True)
def sends(settings: LazySettings) -> GridSettings:
    settings.GRID = settings.GRID.model_copy(update={"email_url": "smtp://mail.example", "email_pause_seconds": 900.0})
    found: GridSettings = settings.GRID
    return found


def a_wisher(name: str = "ada") -> User:
    user = given.a_user(name)
    User.objects.filter(pk=user.pk).update(email=f"{name}@host.example")
    user.refresh_from_db()
    mails.wish(user, True)
    return user


def failed(owner: User | None = None, **evidence: int) -> Task:
    """A task that ended with exit code 3, unless the evidence says otherwise."""
    task, attempt, order = given.running(NOW, owner=owner)
    given.finished(order, attempt.node, NOW, **{"exit_code": 3, **evidence})
    return task


def test_one_mail_tells_of_all_that_failed_and_the_next_comes_after_a_pause(sends: GridSettings) -> None:
    ada = a_wisher()
    tasks = [failed(ada) for _ in range(25)]
    assert mails.step(sends, NOW) == 1
    (told,) = mail.outbox
    assert told.to == ["ada@host.example"]
    assert told.subject == "[grid] 25 tasks failed"
    assert "exit_code: 25" in told.body
    assert f"/tasks/{tasks[0].id}/" in told.body
    assert "and 5 more" in told.body
    failed(ada)
    assert mails.step(sends, NOW + timedelta(seconds=899)) == 0
    assert mails.step(sends, NOW + timedelta(seconds=900)) == 1
    assert mail.outbox[1].subject == "[grid] uname failed: exit_code"
    assert mails.step(sends, NOW + timedelta(days=1)) == 0


def test_a_hole_in_the_events_delays_nothing(sends: GridSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = a_wisher()
    for _ in range(3):
        failed(ada)
    Event.objects.all().delete()
    monkeypatch.setattr(mails, "BATCH", 10)
    failed(ada)
    assert mails.step(sends, NOW) == 1
    assert [told.subject for told in mail.outbox] == ["[grid] uname failed: exit_code"]


def test_success_and_what_was_before_the_wish_and_other_peoples_failures_are_not_told(sends: GridSettings) -> None:
    failed(given.a_user())
    ada = a_wisher()
    failed(ada, exit_code=0)
    failed(given.a_user("bob"))
    assert mails.step(sends, NOW) == 0
    assert mail.outbox == []


def test_nobody_who_does_not_wish_it_gets_a_mail(sends: GridSettings) -> None:
    ada = a_wisher()
    failed(ada)
    mails.wish(ada, False)
    assert mails.step(sends, NOW) == 0
    assert mail.outbox == []


def test_a_mail_that_is_not_taken_is_sent_later_and_nothing_is_counted_twice(
    sends: GridSettings, settings: LazySettings
) -> None:
    ada = a_wisher()
    failed(ada)
    taken = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = f"{__name__}.Refusing"
    assert mails.step(sends, NOW) == 0
    failed(ada)
    settings.EMAIL_BACKEND = taken
    assert mails.step(sends, NOW + timedelta(seconds=900)) == 1
    assert mail.outbox[0].subject == "[grid] 2 tasks failed"
    assert MailWish.objects.get().pending == {}


def test_the_wish_is_told_by_the_api_and_needs_an_address() -> None:
    ada = doors.api_of(given.a_user())
    refused = ada.put("/api/v1/mail", {"on_failure": True}, content_type="application/json")
    assert refused.status_code == 422
    assert refused.json()["faults"][0]["message"] == "your account has no e-mail address"
    User.objects.filter(username="ada").update(email="ada@host.example")
    ada = doors.api_of(User.objects.get(username="ada"))
    assert ada.put("/api/v1/mail", {"on_failure": True}, content_type="application/json").status_code == 200
    assert ada.get("/api/v1/mail").json() == {"on_failure": True, "address": "ada@host.example", "server_sends": True}


def test_a_name_of_several_lines_makes_no_headers(sends: GridSettings) -> None:
    task = failed(a_wisher())
    Task.objects.filter(id=task.id).update(name="x\nBcc: all@host.example")
    assert mails.step(sends, NOW) == 1
    assert mail.outbox[0].subject == "[grid] x Bcc: all@host.example failed: exit_code"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://host", ("host", 25, False, False)),
        ("smtp+tls://u:p%40w@host", ("host", 587, True, False)),
        ("smtps://host:4650", ("host", 4650, False, True)),
    ],
)
def test_the_mail_server_is_named_by_an_address(url: str, expected: tuple[object, ...]) -> None:
    found = web_settings._email(GridSettings(email_url=url))
    names = ("EMAIL_HOST", "EMAIL_PORT", "EMAIL_USE_TLS", "EMAIL_USE_SSL")
    assert tuple(found[name] for name in names) == expected
    if "@" in url:
        assert (found["EMAIL_HOST_USER"], found["EMAIL_HOST_PASSWORD"]) == ("u", "p@w")


def test_another_kind_of_address_is_refused() -> None:
    with pytest.raises(SettingsError):
        web_settings._email(GridSettings(email_url="imap://host"))
