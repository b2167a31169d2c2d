"""A directory with people and groups in it, a server's settings that trust it, and log-ins, for tests of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client

from tests.django import builders as given
from tests.support.ldap_packages import use_ldap_packages
from tests.support.slapd import SUFFIX, Slapd, entry, person

if TYPE_CHECKING:
    from types import ModuleType

PEOPLE = f"ou=people,{SUFFIX}"
GROUPS = f"ou=groups,{SUFFIX}"
PASSWORD = "a long enough password"
FINDER = {"ldap_bind_dn": f"cn=finder,{SUFFIX}", "ldap_bind_password": "finds people"}
LOCKED = "000001010000Z"


def group(name: str, *members: str) -> str:
    """A group of people in ou=groups."""
    return entry(f"cn={name},ou=groups", ["groupOfNames"], cn=name, member=[f"uid={uid},{PEOPLE}" for uid in members])


ENTRIES = (
    person("grace", PASSWORD),
    person("root", PASSWORD),
    person("a+b", PASSWORD),
    person("locked", PASSWORD, pwdAccountLockedTime=LOCKED),
    person("left", PASSWORD, employeeType="left"),
    person("hidden", PASSWORD).replace(PEOPLE, f"ou=secret,{SUFFIX}"),
    person("two", PASSWORD),
    entry("uid=two,ou=groups", ["account", "simpleSecurityObject"], uid="two", userPassword=PASSWORD),
    entry("cn=finder", ["person", "simpleSecurityObject"], cn="finder", sn="finder", userPassword="finds people"),
    group("lab", "grace", "root", "a+b".replace("+", "\\+")),
    group("ops", "root"),
    entry("cn=unix,ou=groups", ["posixGroup"], cn="unix", gidNumber="100", memberUid=["grace"]),
)


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """The directory of ENTRIES."""
    use_ldap_packages()
    with Slapd(tmp_path_factory.mktemp("slapd") / "it", ENTRIES) as running:
        yield running


@pytest.fixture(autouse=True)
def directory(slapd: Slapd) -> ModuleType:
    """The back end, which has not met with silence yet."""
    from webapp import directory as found

    found._Silence.until = 0.0
    return found


Trust = Callable[..., None]


@pytest.fixture
def trust(settings: LazySettings, slapd: Slapd) -> Trust:
    """Sets up log-in by the directory, with further settings; once more for other ones."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "webapp.directory.LdapBackend"]
    before = settings.GRID

    def trusted(**more: Any) -> None:
        ways = {"ldap_url": slapd.url, "ldap_base": PEOPLE, "ldap_ca_file": str(slapd.ca_file)}
        settings.GRID = before.model_copy(update={"dir": settings.GRID.dir, **ways, **more})

    trusted()
    return trusted


@pytest.fixture
def account() -> User:
    """An account "ada" with a password of this grid."""
    user = given.a_user()
    user.set_password(PASSWORD)
    user.save()
    return user


def log_in(name: str, password: str = PASSWORD) -> Any:
    """The answer to a log-in, from a browser of its own."""
    return Client().post("/login/", {"username": name, "password": password})


def enters(name: str, password: str = PASSWORD) -> bool:
    """Whether this opens something."""
    answer = log_in(name, password)
    return bool(answer.status_code == 302 and answer.client.get("/nodes/").status_code == 200)


def words(name: str, password: str = PASSWORD) -> str:
    """The page after a log-in that failed."""
    answer = log_in(name, password)
    assert (answer.status_code, answer.client.get("/nodes/").status_code) == (200, 302)
    return str(answer.content.decode())


WRONG = "The name or the password is wrong."
