"""Log-in with OpenID Connect: an honest provider's people get their accounts and groups, a lying one gets nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group, User
from django.test import Client

from grid.core.models import AuditEntry, Identity
from tests.django import builders as given
from tests.django import doors
from tests.support.identities import Liar, a_key, honest_provider, lying_provider

pytestmark = pytest.mark.django_db

PEOPLE: tuple[dict[str, Any], ...] = (
    {"sub": "1001", "preferred_username": "grace", "email": "grace@example.org", "groups": ["lab"]},
    {"sub": "1002", "preferred_username": "root", "groups": ["lab", "ops"]},
    {"sub": "1003", "preferred_username": "<b>no</b> name"},
)


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The address of a provider that knows PEOPLE."""
    with honest_provider(PEOPLE) as url:
        yield url


def trust(settings: LazySettings, issuer: str, **more: Any) -> None:
    """Set up log-in at this provider."""
    known = {"oidc_issuer": issuer, "oidc_client_id": "grid", "oidc_client_secret": "s3cret", **more}
    settings.GRID = settings.GRID.model_copy(update=known)
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "webapp.identity.OpenIdBackend"]


@pytest.fixture
def trusted(settings: LazySettings, provider: str) -> LazySettings:
    """Settings with the honest provider, whose group "lab" are Clients, and "ops" operators."""
    trust(settings, provider, oidc_groups={"lab": "Clients", "physics": "Physics"}, oidc_staff="ops")
    return settings


def back_from(browser: Client, subject: str, path: str = "/login/external/") -> str:
    """Go to the provider, say there who one is, and return the address that it sends the browser back to."""
    there = browser.get(path).headers["Location"]
    answer = httpx.post(there, data={"sub": subject} if subject else {"action": "deny"})
    return answer.headers["Location"]


def words_of(answer: Any) -> str:
    """The text of the log-in page after a failure."""
    assert (answer.status_code, answer.headers["Location"]) == (302, "/login/")
    return str(answer.client.get("/login/").content.decode())


def test_without_settings_there_is_none() -> None:
    assert "/login/external/" not in Client().get("/login/").content.decode()
    assert Client().get("/login/external/").status_code == 404
    assert Client().get("/login/external/callback/?code=1&state=1").status_code == 404


def test_an_account_is_made_at_the_first_time_and_found_again_by_its_lasting_name(trusted: LazySettings) -> None:
    browser = Client()
    assert (
        '<a class="button" href="/login/external/?next=/nodes/"' in browser.get("/login/?next=/nodes/").content.decode()
    )
    before = browser.get("/login/external/?next=/nodes/").cookies["sessionid"].value
    back = browser.get(back_from(browser, "1001", "/login/external/?next=/nodes/"))
    assert back.headers["Location"] == "/nodes/"
    assert browser.cookies["sessionid"].value != before
    assert browser.get("/nodes/").status_code == 200
    grace = User.objects.get(username="grace")
    assert (grace.email, grace.is_staff, grace.has_usable_password()) == ("grace@example.org", False, False)
    assert [group.name for group in grace.groups.all()] == ["Clients"]
    assert AuditEntry.objects.filter(action="login", actor="grace").exists()
    # She is renamed here, and still she: her name outside is not what she is known by.
    User.objects.filter(pk=grace.pk).update(username="grace.h")
    again = Client()
    again.get(back_from(again, "1001"))
    assert again.get("/nodes/").wsgi_request.user == grace
    assert Identity.objects.count() == 1


def test_groups_and_the_rights_of_operators_come_and_go_with_those_outside(trusted: LazySettings) -> None:
    browser = Client()
    browser.get(back_from(browser, "1002"))
    root = User.objects.get(username="root")
    assert (root.is_staff, root.is_superuser) == (True, True)
    own, physics = Group.objects.create(name="Own"), Group.objects.create(name="Physics")
    root.groups.add(own, physics)
    trusted.GRID = trusted.GRID.model_copy(update={"oidc_staff": "bosses"})
    again = Client()
    again.get(back_from(again, "1002"))
    root.refresh_from_db()
    assert (root.is_staff, root.is_superuser) == (False, False)
    assert sorted(group.name for group in root.groups.all()) == ["Clients", "Own"]


def test_an_account_that_is_here_is_not_taken_over_by_its_name(trusted: LazySettings) -> None:
    given.a_user("grace")
    browser = Client()
    assert "there is another account" in words_of(browser.get(back_from(browser, "1001")))
    assert not Identity.objects.exists()
    trusted.GRID = trusted.GRID.model_copy(update={"oidc_adopt": True})
    browser.get(back_from(browser, "1001"))
    assert browser.get("/nodes/").status_code == 200


def test_an_operators_account_is_never_taken_over(trusted: LazySettings) -> None:
    given.a_user("grace", staff=True)
    trusted.GRID = trusted.GRID.model_copy(update={"oidc_adopt": True})
    browser = Client()
    assert "there is another account" in words_of(browser.get(back_from(browser, "1001")))


def test_names_that_no_account_may_have_are_refused_as_text(trusted: LazySettings) -> None:
    browser = Client()
    page = words_of(browser.get(back_from(browser, "1003")))
    assert "&lt;b&gt;no&lt;/b&gt; name" in page
    assert not User.objects.exists()


def test_who_gives_up_or_is_closed_out_is_told_so(trusted: LazySettings) -> None:
    browser = Client()
    assert "refused or given up" in words_of(browser.get(back_from(browser, "")))
    browser.get(back_from(browser, "1001"))
    User.objects.update(is_active=False)
    assert browser.get("/nodes/").status_code == 302
    assert "refused or given up" in words_of(browser.get(back_from(browser, "1001")))


def test_an_answer_opens_once_and_only_in_the_browser_that_asked(trusted: LazySettings) -> None:
    ada, mallory = Client(), Client()
    address = back_from(mallory, "1001")
    ada.get("/login/external/")
    assert "did not work" in words_of(ada.get(address))
    mallory.get(address)
    mallory.post("/logout/")
    mallory.get("/login/external/")
    assert "did not work" in words_of(mallory.get(address))


def test_a_provider_that_is_away_is_told_in_words(settings: LazySettings) -> None:
    trust(settings, "http://127.0.0.1:9")
    assert "did not work" in words_of(Client().get("/login/external/"))
    assert AuditEntry.objects.get(action="login_failed").detail == {"why": "ConnectionError"}


def test_the_passwords_door_knows_nothing_of_codes(trusted: LazySettings) -> None:
    answer = Client().post("/login/?code=1&state=1", {"username": "grace", "password": "x"})
    assert "name or the password is wrong" in answer.content.decode()


# --------------------------------------------------------------------------------------------------- a lying provider
LIES: dict[str, dict[str, Any]] = {
    "of another issuer": {"claims": {"iss": "https://other.example"}},
    "for another grid": {"claims": {"aud": "another"}},
    "for many": {"claims": {"aud": ["a", "b"]}},
    "for a party behind us": {"claims": {"azp": "another"}},
    "of another log-in": {"claims": {"nonce": "old"}},
    "too old": {"claims": {"exp": 1}},
    "without an end": {"claims": {"exp": None}},
    "about nobody": {"claims": {"sub": None}},
    "about two people": {"userinfo": {"sub": "8"}},
    "signed with another key": {"signer": a_key()},
    "signed with our own secret": {"signer": "s3cret" * 8, "algorithm": "HS256"},
    "signed with nothing": {"signer": "", "algorithm": "none"},
}


@pytest.fixture
def nonces() -> list[str]:
    """What browsers sent as their nonce."""
    return []


@pytest.fixture
def liar(settings: LazySettings, nonces: list[str]) -> Iterator[Liar]:
    """The provider that is trusted, and says what it likes."""
    with lying_provider(nonces) as found:
        trust(settings, found.url)
        yield found


def log_in(browser: Client, nonces: list[str]) -> Any:
    """The answer to the way there and back."""
    asked = parse_qs(urlsplit(browser.get("/login/external/").headers["Location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    nonces.append(asked["nonce"][0])
    return browser.get("/login/external/callback/", {"code": "c", "state": asked["state"][0]})


def test_when_it_says_the_truth_it_is_believed(liar: Liar, nonces: list[str]) -> None:
    assert log_in(Client(), nonces).headers["Location"] == "/"
    assert Identity.objects.get().user.username == "eve"


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_opens_an_account(liar: Liar, nonces: list[str], lie: str) -> None:
    for name, text in LIES[lie].items():
        setattr(liar, name, text)
    browser = Client()
    assert "did not work" in words_of(log_in(browser, nonces))
    assert not User.objects.exists()
    assert browser.get("/nodes/").status_code == 302


def test_a_provider_that_calls_itself_otherwise_is_not_asked(liar: Liar) -> None:
    liar.issuer = "https://other.example"
    assert "did not work" in words_of(Client().get("/login/external/"))


def test_people_with_passwords_log_in_beside_it(liar: Liar) -> None:
    assert doors.browser_of(given.a_user()).get("/nodes/").status_code == 200
