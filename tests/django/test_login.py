"""Log-in: it leads where one wanted to, nowhere else, and guessing passwords is slow work."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from django.core.cache import cache
from django.test import Client

from tests.django import builders as given

pytestmark = pytest.mark.django_db


@pytest.fixture
def account(settings: LazySettings) -> str:
    """The password of a fresh account "ada"; no failures are remembered, and checking one is quick."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()
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


def test_guessing_is_slowed_down_for_the_guesser_and_for_nobody_else(account: str) -> None:
    client = Client()
    assert [log_in(client, "wrong").status_code for _ in range(6)] == [200] * 5 + [429]
    refused = log_in(client, account)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    assert "Too many wrong passwords" in refused.content.decode()
    assert log_in(Client(), account, REMOTE_ADDR="10.0.0.9").status_code == 302


def test_the_right_password_takes_the_brake_off(account: str) -> None:
    client = Client()
    for _ in range(4):
        log_in(client, "wrong")
    assert log_in(client, account).status_code == 302
    client.post("/logout/")
    assert log_in(client, "wrong").status_code == 200


def test_one_address_cannot_try_one_password_on_everybody(account: str) -> None:
    client = Client()
    answers = [log_in(client, "wrong", f"user{number}").status_code for number in range(51)]
    assert answers == [200] * 50 + [429]
