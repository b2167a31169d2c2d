"""Log-in by a directory that is away, frozen, somebody else, or not as the settings say; and by a whole server."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

from grid.core.models import Failures
from grid.core.upkeep import doctor
from tasks.views import Level
from tests.django.conftest import grid_dir
from tests.support.directory_fixtures import (
    ENTRIES,
    FINDER,
    PASSWORD,
    PEOPLE,
    WRONG,
    Trust,
    account,
    directory,
    enters,
    log_in,
    slapd,
    trust,
    words,
)
from tests.support.grids import ROOT, wanted
from tests.support.ldap_packages import ldap_packages
from tests.support.slapd import MANAGER, MANAGER_PASSWORD, SUFFIX, Slapd, write_ca

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["account", "directory", "grid_dir", "slapd", "trust"]

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.django_db]


# ------------------------------------------------------------------------------------------------------------------ TLS
AWAY = "The directory does not answer"


@pytest.mark.parametrize("tls", [False, True], ids=["ldap", "ldaps"])
def test_a_certificate_of_another_authority_or_host_is_not_believed(
    trust: Trust, slapd: Slapd, directory: ModuleType, tmp_path: Path, tls: bool
) -> None:
    write_ca(tmp_path, "other")
    trust(ldap_url=slapd.tls_url if tls else slapd.url, ldap_ca_file=str(tmp_path / "other.pem"))
    assert AWAY in words("grace")
    directory._Silence.until = 0.0
    with Slapd(tmp_path / "slapd", ENTRIES, host="directory.example.org") as other:
        trust(ldap_url=other.tls_url if tls else other.url, ldap_ca_file=str(other.ca_file))
        assert AWAY in words("grace")
    assert not User.objects.exists()


def test_tls_is_really_turned_on(trust: Trust) -> None:
    trust(ldap_starttls=False)
    assert "does not do what this grid asks" in words("grace")  # this directory takes passwords over TLS only
    trust()
    assert enters("grace")


# ----------------------------------------------------------------------------------------------- a directory in trouble
@pytest.mark.parametrize("frozen", [False, True], ids=["killed", "frozen"])
@pytest.mark.parametrize("tls", [False, True], ids=["ldap", "ldaps"])
def test_without_the_directory_people_with_passwords_log_in(
    trust: Trust, slapd: Slapd, account: User, directory: ModuleType, tls: bool, frozen: bool
) -> None:
    trust(ldap_url=slapd.tls_url if tls else slapd.url, ldap_timeout_seconds=0.5)
    slapd.freeze(on=True) if frozen else slapd.kill()
    try:
        assert enters("ada")
        for _ in range(6):
            assert AWAY in words("grace")
        assert not Failures.objects.exists()
        assert WRONG in words("ada", "wrong")
        assert Failures.objects.exists()
    finally:
        slapd.freeze(on=False) if frozen else slapd.start()
    directory._Silence.until = 0.0
    assert enters("grace")


def test_guesses_at_a_password_of_this_grid_are_counted_without_the_directory_too(trust: Trust, account: User) -> None:
    trust(ldap_adopt=True, ldap_url="ldap://127.0.0.1:9")
    assert [log_in("ada", "wrong").status_code for _ in range(5)] == [200] * 4 + [200]
    assert log_in("ada").status_code == 429


UNFIT: dict[str, dict[str, Any]] = {
    "account": {**FINDER, "ldap_bind_password": "wrong"},
    "base": {"ldap_base": f"ou=nowhere,{SUFFIX}"},
    "group base": {"ldap_group_base": f"ou=nowhere,{SUFFIX}", "ldap_staff": "ops"},
    "lasting name": {"ldap_id_attribute": "employeeNumber"},
}


@pytest.mark.parametrize("fault", UNFIT)
def test_a_fault_of_the_settings_is_no_wrong_password(trust: Trust, fault: str) -> None:
    trust(**UNFIT[fault])
    assert "does not do what this grid asks" in words("grace")
    assert not User.objects.exists()
    assert not Failures.objects.exists()


@pytest.mark.parametrize(
    ("settings_", "level", "told"),
    [
        ({}, Level.PASS, "answers in"),
        ({"ldap_base": "", "ldap_user_dn": f"uid={{name}},{PEOPLE}"}, Level.PASS, "answers in"),
        ({"ldap_bind_dn": MANAGER, "ldap_bind_password": MANAGER_PASSWORD}, Level.PASS, "answers in"),
        (UNFIT["account"], Level.FAIL, "GRID_LDAP_BIND_DN cannot log in: Invalid credentials"),
        (UNFIT["base"], Level.FAIL, f"GRID_LDAP_BASE (ou=nowhere,{SUFFIX}) cannot be read: No such object"),
        (UNFIT["group base"], Level.FAIL, f"GRID_LDAP_GROUP_BASE (ou=nowhere,{SUFFIX}) cannot be read: No such object"),
        ({"ldap_url": "ldap://127.0.0.1:9"}, Level.FAIL, "Can't contact LDAP server"),
        ({"ldap_ca_file": "/etc/hostname"}, Level.FAIL, "TLS cannot be turned on"),
    ],
)
def test_the_doctor_asks_it(
    trust: Trust, settings: LazySettings, settings_: dict[str, Any], level: Level, told: str
) -> None:
    trust(**settings_)
    (found,) = doctor._directory()
    assert (found.name, found.level) == ("directory", level), found
    assert told in found.detail
    assert bool(found.hint) is (level is Level.FAIL)


# ------------------------------------------------------------------------------------------------------- a whole server
def test_a_server_as_operators_start_it(slapd: Slapd, tmp_path: Path) -> None:
    said = {"ldap_url": slapd.url, "ldap_ca_file": str(slapd.ca_file), "ldap_base": PEOPLE}
    python_path = os.pathsep.join([str(ldap_packages()), str(ROOT)])
    environment = wanted(dir=str(tmp_path / "grid"), **said) | {
        "PYTHONPATH": python_path,
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
    }
    migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, env=environment, cwd=tmp_path, check=True)
    log = tmp_path / "server.log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        serve = [sys.executable, "-m", "uvicorn", "webapp.asgi:application", "--fd", str(listener.fileno())]
        process = subprocess.Popen(
            serve, env=environment, cwd=tmp_path, pass_fds=[listener.fileno()], stdout=output, stderr=output
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as browser:
                # Somebody is in, and the brake works, with Django's settings as they are made from the environment.
                answers = [_post(browser, "grace", password) for password in ("wrong", "", PASSWORD)]
                assert [one.status_code for one in answers] == [200, 200, 302], log.read_text()
                assert browser.get("/nodes/").status_code == 200
        finally:
            process.terminate()
            process.wait(30)
    assert PASSWORD not in log.read_text()


def _post(browser: httpx.Client, name: str, password: str) -> httpx.Response:
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get("/login/").text)
    assert token is not None
    data = {"username": name, "password": password, "csrfmiddlewaretoken": token[1]}
    return browser.post("/login/", data=data)
