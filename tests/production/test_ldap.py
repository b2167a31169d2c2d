"""Log-in by a directory: a real slapd's people get their accounts and groups; nobody gets in by what is no password."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client, RequestFactory

from grid.core.models import AuditEntry, Identity
from tests.django import builders as given
from tests.django.conftest import grid_dir
from tests.django.kolejkas import Program
from tests.support.directory_fixtures import (
    ENTRIES,
    FINDER,
    GROUPS,
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
from tests.support.slapd import SUFFIX, Slapd, entry

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["account", "directory", "grid_dir", "slapd", "trust"]

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.django_db]


# -------------------------------------------------------------------------------------------------- ways to find people
WAYS: dict[str, dict[str, Any]] = {
    "looked for by nobody": {},
    "looked for by an account": FINDER,
    "by a template": {"ldap_base": "", "ldap_user_dn": f"uid={{name}},{PEOPLE}"},
    "by a template, read by an account": {"ldap_base": "", "ldap_user_dn": f"uid={{name}},{PEOPLE}", **FINDER},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tls", [False, True], ids=["ldap", "ldaps"])
def test_people_log_in_however_they_are_found(trust: Trust, slapd: Slapd, way: str, tls: bool) -> None:
    address = slapd.tls_url if tls else slapd.url
    trust(ldap_url=address, ldap_group_base=GROUPS, ldap_groups={"lab": "Clients", "unix": "Unix"}, **WAYS[way])
    assert enters("grace")
    grace = User.objects.get(username="grace")
    assert (grace.email, grace.is_staff, grace.has_usable_password()) == ("grace@example.org", False, False)
    assert sorted(one.name for one in grace.groups.all()) == ["Clients", "Unix"]
    # A sign that directories read as their own is part of a name.
    assert enters("a+b")
    assert [one.name for one in User.objects.get(username="a+b").groups.all()] == ["Clients"]
    for name, password in (("grace", "wrong"), ("nobody", PASSWORD), ("hidden", PASSWORD), ("grace", "")):
        assert not enters(name, password)
    assert User.objects.count() == 2


def test_an_account_is_found_again_whatever_its_name_is(trust: Trust, slapd: Slapd) -> None:
    assert enters("GRACE")
    grace = User.objects.get(username="grace")
    assert AuditEntry.objects.filter(action="login", actor="grace").exists()
    User.objects.filter(pk=grace.pk).update(username="grace.h")
    slapd.change({"uid=grace,ou=people": "replace: mail\nmail: other@example.org"})
    assert enters("grace")
    grace.refresh_from_db()
    assert (grace.username, grace.email) == ("grace.h", "other@example.org")
    assert (Identity.objects.get().issuer, User.objects.count()) == ("ldap:entryuuid", 1)


def test_the_first_server_that_answers_is_taken(trust: Trust, slapd: Slapd) -> None:
    trust(ldap_url=f"ldap://127.0.0.1:9 {slapd.url}")
    assert enters("grace")


def test_kolejkas_programs_have_the_same_door(trust: Trust) -> None:
    assert enters("grace")
    grace = User.objects.get(username="grace")
    assert Program(grace, PASSWORD).login == {"status": "OK"}
    assert Program(grace, "wrong").login["status"] == "FAIL"


# --------------------------------------------------------------------------------------------------- what opens nothing
def test_an_empty_password_is_not_even_asked_about(trust: Trust, slapd: Slapd, directory: ModuleType) -> None:
    import ldap

    server = ldap.initialize(slapd.tls_url)
    server.set_option(ldap.OPT_X_TLS_CACERTFILE, str(slapd.ca_file))
    server.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
    server.simple_bind_s(f"uid=grace,{PEOPLE}", "")  # the directory itself says yes
    request = RequestFactory().post("/login/")
    for empty in ("", None, "\0", f"\0{PASSWORD}", f"{PASSWORD}\0"):
        assert directory.LdapBackend().authenticate(request, "grace", empty) is None
    assert not User.objects.exists()


HOSTILE = (
    "*",
    "grac*",
    "grace)(uid=*",
    "*)(objectClass=*))(|(uid=*",
    f"grace,{PEOPLE}",
    "grace\\2c",
    "grace#",
    "gr\0ace",
)


@pytest.mark.parametrize("way", ["looked for by nobody", "by a template"])
def test_names_that_mean_something_to_directories_are_only_names(trust: Trust, directory: ModuleType, way: str) -> None:
    trust(**WAYS[way])
    for name in (*HOSTILE, " grace", "grace ", "gra\u00adce", "\uff47race", "x" * 151):
        request = RequestFactory().post("/login/")
        assert directory.LdapBackend().authenticate(request, name, PASSWORD) is None
    # And were names not looked at before, each of them would still be one value.
    past_the_look = directory.LDAPBackend.authenticate
    for name in HOSTILE:
        if "\0" not in name:
            assert past_the_look(directory.LdapBackend(), RequestFactory().post("/login/"), name, PASSWORD) is None
    assert not User.objects.exists()


def test_a_name_that_two_have_is_nobodys(trust: Trust) -> None:
    trust(ldap_base=SUFFIX)
    assert WRONG in words("two")


def test_who_is_locked_left_or_closed_out_here_does_not_come_in(trust: Trust) -> None:
    trust(ldap_filter="(&(uid={name})(!(employeeType=left)))")
    assert WRONG in words("locked")
    assert WRONG in words("left")
    assert enters("grace")
    User.objects.update(is_active=False)
    assert WRONG in words("grace", "wrong")
    assert "Your account here is closed" in words("grace")
    assert AuditEntry.objects.get(action="login_refused").detail == {"why": "the account is closed"}


def test_wrong_passwords_work_the_brake(trust: Trust) -> None:
    spellings = ("grace", "GRACE", " grace", "grace ", "\uff47race")
    assert [log_in(name, "wrong").status_code for name in spellings] == [200] * 5
    assert log_in("grace").status_code == 429


def test_referrals_are_not_followed(trust: Trust, slapd: Slapd, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0)
        ref = f"ldap://127.0.0.1:{elsewhere.getsockname()[1]}/{PEOPLE}"
        away = entry("ou=elsewhere,ou=people", ["referral", "extensibleObject"], ou="elsewhere", ref=ref)
        with Slapd(tmp_path / "slapd", [*ENTRIES, away]) as referring:
            trust(ldap_url=referring.url, ldap_ca_file=str(referring.ca_file))
            assert enters("grace")
            trust(ldap_url=referring.url, ldap_ca_file=str(referring.ca_file), ldap_base=f"ou=elsewhere,{PEOPLE}")
            assert "does not do what this grid asks" in words("grace")
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


# ----------------------------------------------------------------------------------------------- groups, other accounts
def test_groups_and_the_rights_of_operators_come_and_go_with_those_of_the_directory(trust: Trust, slapd: Slapd) -> None:
    mapped = {"ldap_group_base": GROUPS, "ldap_groups": {f"CN=lab, {GROUPS}": "Clients", "physics": "Physics"}}
    trust(**mapped)
    assert enters("root")
    root = User.objects.get(username="root")
    assert (root.is_staff, root.is_superuser) == (False, False)
    root.groups.add(Group.objects.create(name="Own"), Group.objects.create(name="Physics"))
    trust(ldap_staff="ops", **mapped)
    assert enters("root")
    root.refresh_from_db()
    assert (root.is_staff, root.is_superuser) == (True, True)
    assert sorted(one.name for one in root.groups.all()) == ["Clients", "Own"]
    slapd.change({"cn=ops,ou=groups": f"replace: member\nmember: uid=grace,{PEOPLE}"})
    assert enters("root")
    root.refresh_from_db()
    assert (root.is_staff, root.is_superuser) == (False, False)
    slapd.change({"cn=ops,ou=groups": f"replace: member\nmember: uid=root,{PEOPLE}"})


def test_only_members_of_groups_that_may_log_in_do(trust: Trust) -> None:
    trust(ldap_group_base=GROUPS, ldap_allowed=("ops", "others"))
    assert enters("root")
    assert "in none of the groups" in words("grace")
    assert WRONG in words("grace", "wrong")
    assert User.objects.count() == 1
    refused = AuditEntry.objects.get(action="login_refused")
    assert (refused.target, refused.actor, refused.address) == ("grace", "-", "127.0.0.1")


def test_an_account_that_is_here_is_not_taken_over_nor_are_its_passwords_told(trust: Trust, slapd: Slapd) -> None:
    grace = given.a_user("Grace")
    assert WRONG in words("grace")
    trust(ldap_url="ldap://127.0.0.1:9")
    assert WRONG in words("grace")  # nobody was asked, else that nobody answers would be told
    trust(ldap_adopt=True)
    assert enters("grace")
    assert Identity.objects.get().user == grace


def test_an_operators_account_is_never_taken_over(trust: Trust) -> None:
    given.a_user("grace", staff=True)
    trust(ldap_adopt=True)
    assert WRONG in words("grace")
    assert not Identity.objects.exists()


def test_passwords_of_this_grid_come_first(trust: Trust, account: User) -> None:
    trust(ldap_url="ldap://127.0.0.1:9")
    assert enters("ada")


def test_the_page_says_whose_passwords_it_takes(trust: Trust) -> None:
    assert "Use <your> account" not in Client().get("/login/").content.decode()
    trust(ldap_label="Use <your> account of the lab.")
    assert "Use &lt;your&gt; account of the lab." in Client().get("/login/").content.decode()


# ---------------------------------------------------------------------------------------------------------- small parts
def test_what_names_people_for_ever_may_be_bytes(directory: ModuleType) -> None:
    text = "4e8e7b3c-0d1f-4b7a-9a57-0d8e3f6b2c11"
    raw = bytes.fromhex("3c7b8e4e1f0d7a4b9a570d8e3f6b2c11")
    assert directory._lasting({"objectGUID": [raw]}, "objectGUID") == text
    by_chance = "abcdefgh\0jklmnop"
    assert directory._lasting({"objectGUID": [by_chance]}, "objectGUID") == "64636261-6665-6867-006a-6b6c6d6e6f70"
    assert directory._lasting({"entryUUID": [text]}, "entryUUID") == text
    assert directory._lasting({"seal": [b"\xff\x00"]}, "seal") == "ff00"
    assert directory._lasting({}, "entryUUID") == ""


def test_groups_are_known_by_name_or_dn_however_it_is_written(slapd: Slapd) -> None:
    from grid.core.people.ldapserver import held

    found = [("cn=lab,ou=groups,dc=example,dc=org", ["Lab"]), ("cn=a\\2cb,dc=x", ["a,b"])]
    wanted = {"lab", "CN=Lab, OU=groups, DC=example, DC=org", "cn=a\\,b,dc=x", "A,b"}
    assert held({*wanted, "labs", "cn=lab", "cn=lab,dc=x", "=", ""}, found) == wanted
