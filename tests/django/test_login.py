"""Log-in: it leads where one wanted to, nowhere else, and guessing passwords is slow work."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from grid.core.models import AuditEntry, Failures
from grid.core.people import members
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db


@pytest.fixture
def account(settings: LazySettings) -> str:
    """The password of a fresh account "ada"; checking it is quick."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    user = given.a_user()
    user.set_password("a long enough password")
    user.save()
    return "a long enough password"


def log_in(client: Client, password: str, name: str = "ada", **extra: Any) -> Any:
    """The answer to a log-in."""
    return client.post("/login/", {"username": name, "password": password}, **extra)


def test_log_in_goes_where_one_wanted_to_and_out_again(account: str) -> None:
    client = Client()
    assert client.get("/nodes/").headers["Location"] == "/login/?next=/nodes/"
    data = {"username": "ada", "password": account, "next": "/nodes/"}
    assert client.post("/login/", data).headers["Location"] == "/nodes/"
    assert client.get("/nodes/").status_code == 200
    assert client.post("/logout/").headers["Location"] == "/login/"
    assert client.get("/nodes/").status_code == 302


def test_log_in_leads_nowhere_else(account: str) -> None:
    data = {"username": "ada", "password": account, "next": "https://evil.example/"}
    assert Client().post("/login/", data).headers["Location"] == "/"


def fail(client: Client, times: int, name: str = "ada", **extra: Any) -> list[int]:
    """The statuses of so many wrong passwords."""
    return [log_in(client, "wrong", name, **extra).status_code for _ in range(times)]


def after_pauses(**passed: float) -> None:
    """Let time pass for what is counted."""
    for row in Failures.objects.all():
        row.last_at -= timedelta(**passed)
        row.until = row.until and row.until - timedelta(**passed)
        row.save()


def test_guessing_is_slowed_down_for_the_guesser_and_for_nobody_else(account: str) -> None:
    client = Client()
    assert fail(client, 6) == [200] * 5 + [429]
    refused = log_in(client, account)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert re.search(
        r"Too many wrong passwords. Try again in \d+ seconds, at \d\d:\d\d:\d\d UTC", refused.content.decode()
    )
    assert log_in(Client(), account, REMOTE_ADDR="10.0.0.9").status_code == 302


def test_all_spellings_of_a_name_that_the_form_takes_for_one_are_counted_together(account: str) -> None:
    answers = [
        log_in(Client(), "wrong", name).status_code for name in ("ada", " ada", "ada ", "ada\t", "\uff41da", "ada")
    ]
    assert answers == [200] * 5 + [429]


def test_each_further_failure_doubles_the_pause_until_a_day_without_one(account: str) -> None:
    client = Client()
    fail(client, 5)
    after_pauses(seconds=61)
    assert fail(client, 2) == [200, 429]
    assert 60 < int(log_in(client, "wrong").headers["Retry-After"]) <= 120
    after_pauses(days=1, seconds=1)
    assert fail(client, 5) == [200] * 5


def test_the_right_password_takes_the_brake_off(account: str) -> None:
    client = Client()
    fail(client, 4)
    assert log_in(client, account).status_code == 302
    client.post("/logout/")
    assert fail(client, 5) == [200] * 5


def test_one_address_cannot_try_one_password_on_everybody(account: str) -> None:
    client = Client()
    answers = [log_in(client, "wrong", f"user{number}").status_code for number in range(51)]
    assert answers == [200] * 50 + [429]
    # Nor does an account of one's own take it off.
    after_pauses(seconds=61)
    assert log_in(client, account).status_code == 302
    client.post("/logout/")
    assert [log_in(client, "wrong", name).status_code for name in ("one", "two")] == [200, 429]


def test_one_account_cannot_be_tried_from_everywhere(account: str) -> None:
    for number in range(50):
        log_in(Client(), "wrong", REMOTE_ADDR=f"10.0.0.{number}")
    refused = log_in(Client(), account, REMOTE_ADDR="10.0.1.1")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) <= 10
    after_pauses(seconds=11)
    assert log_in(Client(), account, REMOTE_ADDR="10.0.1.1").status_code == 302


def test_a_pause_is_noted_and_no_wrong_name_is(account: str) -> None:
    fail(Client(), 5)
    fail(Client(), 5, "my secret", REMOTE_ADDR="10.0.0.9")
    noted = AuditEntry.objects.filter(action="login_paused").order_by("id")
    assert [(one.target, one.address) for one in noted] == [("ada", "127.0.0.1"), ("(unknown name)", "10.0.0.9")]
    assert not AuditEntry.objects.filter(target__contains="secret").exists()
    assert not Failures.objects.filter(key__contains="secret").exists()


def test_the_operators_pages_have_the_same_door(account: str) -> None:
    client = Client()
    fail(client, 5)
    answer = client.post("/admin/login/?next=/admin/core/", {"username": "ada", "password": account})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login/?next=/admin/core/")
    assert client.get("/admin/", follow=True).redirect_chain[-1][0].startswith("/login/?next=/admin/")
    assert doors.browser_of(given.a_user("bob")).get("/admin/", follow=True).status_code == 403


def test_unknown_tokens_are_counted_and_good_ones_pass_all_the_same() -> None:
    bad = Client(headers={"authorization": "Bearer grid_no"})
    answers = [bad.get("/api/v1/whoami") for _ in range(102)]
    assert [one.status_code for one in answers] == [401] * 99 + [429] * 3
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert answers[-1].json()["title"] == "Too many failures"
    assert Failures.objects.get().number == 100
    assert AuditEntry.objects.filter(action="tokens_paused").count() == 1
    assert doors.api_of(given.a_user()).get("/api/v1/whoami").status_code == 200
    assert bad.get("/api/v1/whoami", REMOTE_ADDR="10.0.0.9").status_code == 401


# ------------------------------------------------------------------------------------------------------------ sessions
def test_a_log_in_begins_a_new_session_which_ends_in_time(account: str, settings: LazySettings) -> None:
    settings.SESSION_COOKIE_AGE = 3600
    client = Client()
    client.cookies["sessionid"] = "planted"
    answer = log_in(client, account)
    cookie = answer.cookies["sessionid"]
    assert cookie.value != "planted"
    assert (cookie["max-age"], cookie["httponly"], cookie["samesite"]) == (3600, True, "Lax")
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert client.get("/nodes/").status_code == 302
    log_in(Client(), account)
    assert Session.objects.filter(expire_date__lt=timezone.now()).count() == 0


def test_another_password_logs_out_everywhere(account: str) -> None:
    one, two = Client(), Client()
    assert [log_in(client, account).status_code for client in (one, two)] == [302, 302]
    members.set_password("ada", "an even longer password")
    assert [client.get("/nodes/").status_code for client in (one, two)] == [302, 302]
    assert one.get("/api/v1/whoami").status_code == 401


def test_a_button_logs_out_everywhere_and_nobody_else(account: str) -> None:
    one, two = Client(), Client()
    assert [log_in(client, account).status_code for client in (one, two)] == [302, 302]
    bob = doors.browser_of(given.a_user("bob"))
    token = doors.api_of(given.a_user())
    answer = one.post("/account/sessions/end/", follow=True)
    assert "logged out everywhere (2 log-ins)" in answer.content.decode()
    assert [client.get("/nodes/").status_code for client in (one, two, bob)] == [302, 302, 200]
    assert token.get("/api/v1/whoami").status_code == 200
    assert AuditEntry.objects.get(action="sessions_ended").target == "user ada"
