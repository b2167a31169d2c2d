"""Log-in of kolejka's programs: passwords, tokens, their sessions, and CSRF as everywhere."""

from __future__ import annotations

import time

import pytest
from django.conf import LazySettings
from django.core.signing import dumps
from django.test import Client
from django.utils import timezone

from grid.core.models import Failures, Task
from grid.core.people import members, tokens
from grid.core.people.tokens import Scope
from tasks.limits import Limits
from tests.django import builders as given
from tests.django import doors
from tests.django.kolejkas import TASK, Program, a_client

pytestmark = pytest.mark.django_db


def test_a_password_and_a_token_of_ones_own_log_in(settings: LazySettings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    members.add("eve", "a long enough password")
    eve, bob = members.find("eve"), given.a_user("bob")
    assert Program(eve, "a long enough password").login == {"status": "OK"}
    assert Program(eve, doors.a_token(eve, Scope.READ)).login == {"status": "OK"}
    for wrong in ("wrong", doors.a_token(bob, Scope.READ), "grid_nonsense"):
        program = Program(eve, wrong)
        assert (program.status, program.login["status"], "sessionid" in program.cookies) == (200, "FAIL", False)
    assert Failures.objects.exists()


def test_guessing_is_braked_but_a_token_passes(settings: LazySettings) -> None:
    ada = given.a_user()
    for _ in range(5):
        Program(ada, "wrong")
    assert (guess := Program(ada, "wrong")).status == 429
    assert int(guess.headers["Retry-After"]) > 0
    assert Program(ada).login == {"status": "OK"}


def test_the_token_of_a_node_opens_nothing_here() -> None:
    ada = given.a_user()
    clear = doors.a_token(ada, Scope.NODE, node=given.a_node(timezone.now()))
    assert Program(ada, clear).login["status"] == "FAIL"


def test_a_session_ends_with_its_token_its_password_or_its_account() -> None:
    ada = given.a_user()
    program = Program(ada)
    assert program.ask("GET", "settings/")["blob_hash_algorithm"] == "sha256"
    ada.tokens.all().delete()
    tokens.forget()
    program.ask("GET", "settings/")
    assert program.status == 403
    ada.set_password("a long enough password")
    ada.save()
    by_password = Program(ada, "a long enough password")
    by_password.ask("GET", "settings/")
    assert by_password.status == 200
    members.set_active(ada, active=False)
    by_password.ask("GET", "settings/")
    assert by_password.status == 403
    members.set_active(ada, active=True)
    members.set_password("ada", "another long password")
    by_password.ask("GET", "settings/")
    assert by_password.status == 403


def test_a_token_opens_no_more_than_its_scopes() -> None:
    reader = Program(given.a_user(), "", Scope.READ)
    reader.ask("GET", "queue/stats/")
    assert reader.status == 200
    assert "scope" in reader.ask("POST", "task/task/", TASK)["message"]
    assert reader.status == 403


def test_sessions_of_pages_and_of_programs_are_strangers_to_each_other() -> None:
    ada = given.a_user()
    browser = doors.browser_of(ada)
    assert browser.get("/kolejka/settings/").status_code == 403
    program = Program(ada)
    cookie = program.cookies["sessionid"]
    assert (cookie["path"], cookie["samesite"], cookie["httponly"]) == ("/kolejka/", "Strict", True)
    thief = Client()
    thief.cookies["sessionid"] = cookie.value
    assert thief.get("/account/").status_code == 302
    assert thief.get("/api/v1/tasks").status_code == 401
    forged = Client()
    forged.cookies["sessionid"] = dumps({"user": ada.pk, "proof": "", "since": 2**40}, salt="other")
    assert forged.get("/kolejka/settings/").status_code == 403


def test_a_session_that_is_used_goes_on_for_two_weeks_at_the_most() -> None:
    ada, now = given.a_user(), int(time.time())
    said = {"user": ada.pk, "proof": ada.get_session_auth_hash()}

    def asked(**times: int) -> tuple[int, bool]:
        client = Client()
        client.cookies["sessionid"] = dumps({**said, **times}, salt="webapp.compat.kolejka")
        answer = client.get("/kolejka/settings/")
        return answer.status_code, "sessionid" in answer.cookies

    assert asked(since=now, seen=now) == (200, False)
    assert asked(since=now - 7200, seen=now - 7200) == (200, True)
    assert asked(since=now - 15 * 86_400, seen=now) == (403, False)


def test_writes_need_the_csrf_token_as_everywhere() -> None:
    program = a_client()
    program.ask("POST", "task/task/", TASK, csrf=False)
    assert (program.status, Task.objects.count()) == (403, 0)
    program.ask("POST", "login/", form={"username": "ada", "password": "x"}, csrf=False)
    assert program.status == 403


def test_the_caps_of_the_site_are_told_in_its_units(settings: LazySettings) -> None:
    caps = Limits(memory=2**30, time=60, cpus=2)
    settings.GRID = settings.GRID.model_copy(update={"max_limits": caps})
    told = a_client().ask("GET", "settings/")
    assert told["limits"] == {"cpus": 2, "memory": "1073741824b", "time": "60.0s", "network": False}
