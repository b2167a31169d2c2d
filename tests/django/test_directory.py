"""Log-in by a directory, as far as none is needed: its settings, names and passwords that are never asked about."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies

from grid.core.conf import GridSettings
from grid.core.models import Identity
from grid.core.people import directory
from grid.core.people.identity import Admission, may_open
from grid.core.people.tokens import Scope
from tests.django import builders as given
from tests.django import doors

ROOT = Path(__file__).resolve().parents[2]
GOOD = {"ldap_url": "ldaps://directory.example.org", "ldap_base": "dc=example,dc=org"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages count as being here: whether they really are is no matter of these tests."""
    monkeypatch.setattr(directory, "PACKAGES", ())


def faults(**said: Any) -> tuple[str, ...]:
    """What is wrong with good settings that were changed."""
    return directory.faults(GridSettings(**{**GOOD, **said}))


RIGHT: tuple[dict[str, Any], ...] = (
    {},
    {"ldap_url": ""},
    {"ldap_url": "", "ldap_base": "", "ldap_starttls": False},
    {"ldap_url": "ldap://directory.example.org"},
    {"ldap_url": "ldap://one.example.org:1389 ldap://[2001:db8::1]"},
    {"ldap_url": "ldap://127.0.0.1:1389", "ldap_starttls": False},
    {"ldap_url": "ldap://[::1] ldap://localhost", "ldap_starttls": False},
    {"ldap_url": "ldapi://%2Frun%2Fslapd%2Fldapi", "ldap_starttls": False},
    {"ldap_url": "ldap://directory.example.org", "ldap_starttls": False, "ldap_plaintext": True},
    {"ldap_base": "", "ldap_user_dn": "uid={name},ou=people,dc=example,dc=org"},
    {"ldap_bind_dn": "cn=finder", "ldap_bind_password": "secret"},
    {"ldap_staff": "ops", "ldap_group_base": "ou=groups"},
    {"ldap_staff": "ops", "ldap_group_base": "ou=groups", "ldap_group_filter": "(member:1.2.840:={dn})"},
    {"ldap_ca_file": "/etc/hostname"},
)


@pytest.mark.parametrize("said", RIGHT)
@pytest.mark.usefixtures("installed")
def test_settings_that_will_do(said: dict[str, Any]) -> None:
    assert faults(**said) == ()


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"ldap_url": "http://directory"}, 'GRID_LDAP_URL is "http://directory": write ldaps://HOST'),
    ({"ldap_url": "directory.example.org"}, "GRID_LDAP_URL is"),
    ({"ldap_url": "ldap://"}, "GRID_LDAP_URL is"),
    ({"ldap_url": "ldap://one ldaps://two"}, "GRID_LDAP_URL names servers of several kinds"),
    (
        {"ldap_url": "ldap://192.0.2.1", "ldap_starttls": False},
        "GRID_LDAP_STARTTLS=false would send passwords to 192.0",
    ),
    ({"ldap_url": "ldap://localhost ldap://two", "ldap_starttls": False}, "would send passwords to two in clear"),
    ({"ldap_url": "ldap://localhost.example.org", "ldap_starttls": False}, "GRID_LDAP_PLAINTEXT=true"),
    ({"ldap_ca_file": "/nowhere/ca.pem"}, "GRID_LDAP_CA_FILE is /nowhere/ca.pem, which cannot be read"),
    ({"ldap_base": ""}, "said nowhere: set one of GRID_LDAP_BASE"),
    ({"ldap_user_dn": "uid={name}"}, "said twice: set one of GRID_LDAP_BASE"),
    ({"ldap_base": "", "ldap_user_dn": "uid=%s"}, 'GRID_LDAP_USER_DN is "uid=%s": it needs {name} in it'),
    ({"ldap_base": "", "ldap_user_dn": "uid={name},ou={place}"}, "nothing else in braces"),
    ({"ldap_filter": "uid={name}"}, "a filter is within parentheses, such as (uid={name})"),
    ({"ldap_filter": "(&(uid={name})"}, "a filter is within parentheses"),
    ({"ldap_filter": "(uid=*)"}, "GRID_LDAP_FILTER is"),
    ({"ldap_filter": "(member={dn})"}, "GRID_LDAP_FILTER is"),
    ({"ldap_bind_dn": "cn=finder"}, "GRID_LDAP_BIND_PASSWORD is missing"),
    ({"ldap_bind_password": "secret"}, "GRID_LDAP_BIND_DN is missing"),
    ({"ldap_id_attribute": ""}, "GRID_LDAP_ID_ATTRIBUTE is empty"),
    ({"ldap_name_attribute": ""}, "GRID_LDAP_NAME_ATTRIBUTE is empty"),
    ({"ldap_staff": "ops"}, "GRID_LDAP_GROUP_BASE is missing"),
    ({"ldap_groups": {"lab": "Clients"}}, "GRID_LDAP_GROUP_BASE is missing"),
    ({"ldap_allowed": ("lab",)}, "GRID_LDAP_GROUP_BASE is missing"),
    ({"ldap_staff": "o", "ldap_group_base": "o=x", "ldap_group_filter": "(cn=x)"}, "it needs {dn} or {name} in it"),
)


@pytest.mark.parametrize(("said", "told"), WRONG)
@pytest.mark.usefixtures("installed")
def test_settings_that_will_not_do_are_told_with_what_mends_them(said: dict[str, Any], told: str) -> None:
    (found,) = faults(**said)
    assert told in found


def test_packages_that_are_not_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "PACKAGES", ("django", "no_such_package"))
    (found,) = faults()
    assert found.startswith("GRID_LDAP_URL wants packages that are not here (no_such_package): pip install -r req")


def test_the_server_does_not_start_with_settings_that_will_not_do(tmp_path: Path) -> None:
    wanted = {"GRID_DIR": str(tmp_path), "GRID_LDAP_URL": "ldap://192.0.2.1", "GRID_LDAP_STARTTLS": "false"}
    done = subprocess.run(
        [sys.executable, "-c", "import webapp.settings"],
        env=os.environ | wanted,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "SettingsError: " in done.stderr
    assert "GRID_LDAP_STARTTLS=false would send passwords to 192.0.2.1 in clear" in done.stderr
    assert "set one of GRID_LDAP_BASE" in done.stderr


def test_lists_and_maps_are_json() -> None:
    environ = {"GRID_LDAP_GROUPS": '{"lab": "Clients"}', "GRID_LDAP_ALLOWED": '["lab"]', "GRID_LDAP_CA_FILE": "/x/ca"}
    found = GridSettings.from_environ(environ)
    assert (found.ldap_groups, found.ldap_allowed, found.ldap_ca_file) == ({"lab": "Clients"}, ("lab",), "/x/ca")


@pytest.mark.parametrize("said", [{}, {"ldap_url": "ldapi://x"}, {"ldap_url": "ldap://x", "ldap_starttls": False}])
def test_tls_is_turned_on_where_it_is_not_there_from_the_beginning(said: dict[str, Any]) -> None:
    assert not directory.uses_starttls(GridSettings(**{**GOOD, **said}))
    assert directory.uses_starttls(GridSettings(ldap_url="ldap://127.0.0.1 ldap://x"))


@hypothesis_given(strategies.text())
def test_a_template_is_put_together_whatever_else_is_in_it(text: str) -> None:
    around = text.replace("{", "").replace("}", "")
    made = directory.percent(f"{around}(uid={{name}})(member={{dn}}){around}") % {"user": "ada", "dn": "uid=ada"}
    assert made == f"{around}(uid=ada)(member=uid=ada){around}"


@pytest.mark.parametrize(
    "name",
    ["", "*", "a*", "a)(uid=*", "a,ou=b", "a=b", "a\\2a", "a b", " a", "a ", "a\0", "a\u00add", "\uff41", "a" * 151],
)
def test_what_cannot_be_a_name_is_never_asked_about(name: str) -> None:
    assert not directory.could_be(name, "password")
    assert directory.could_be("ada.l+1@example-2", "password")
    assert directory.could_be("zażółć", "password")


@pytest.mark.parametrize("password", ["", "\0", "pass\0word", "x" * 1001])
def test_what_cannot_be_a_password_is_never_asked_about(password: str) -> None:
    assert not directory.could_be("ada", password)
    assert directory.could_be("ada", " ")


@pytest.mark.django_db
def test_tokens_are_not_told_to_a_directory() -> None:
    ada = given.a_user()
    assert not directory.could_be("ada", doors.a_token(ada, Scope.READ))
    assert directory.could_be("ada", "grid_is my favourite")


@pytest.mark.usefixtures("installed")
def test_the_description_names_every_setting_and_its_examples_will_do(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "login.md").read_text()
    names = [f"GRID_{name.upper()}" for name in GridSettings.model_fields if name.startswith("ldap_")]
    assert [name for name in names if f"`{name}`" not in text] == []
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    examples = re.findall(r"```sh\n(GRID_LDAP_.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        here = re.sub(r"=/(?:run|etc)/\S+", f"={secret}", example)
        environ = dict(line.split("=", 1) for line in shlex.split(here))
        assert directory.faults(GridSettings.from_environ(environ)) == ()


@pytest.mark.django_db
def test_a_directory_sees_passwords_of_its_own_people_only() -> None:
    ada, operator, other = given.a_user("ada"), given.a_user("op", staff=True), given.a_user("other")
    Identity.objects.create(user=other, issuer="https://elsewhere.example", subject="1")
    plain, adopts = Admission(groups={}), Admission(groups={}, adopt=True)

    def asked(admission: Admission) -> list[str]:
        names = ("new", "ADA", ada.username, operator.username, other.username)
        return [name for name in names if may_open(name, "ldap:entryuuid", admission)]

    assert asked(plain) == ["new"]
    assert asked(adopts) == ["new", "ADA", "ada"]
    Identity.objects.create(user=operator, issuer="ldap:entryuuid", subject="2")
    assert asked(plain) == ["new", "op"]
