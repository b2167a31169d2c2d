"""Log-in by a directory (LDAP), as far as none is asked: whether the settings will do, and for whom it may be asked.

Passwords of accounts that the directory does not vouch for never reach it: such a log-in could only be refused.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError

from grid.core.conf import GridSettings

PACKAGES = ("ldap", "django_auth_ldap")
SCHEMES = ("ldaps", "ldap", "ldapi")
LONGEST_PASSWORD = 1000

_TOKEN = re.compile(r"grid_[\w-]{32,}")
_PLACE = re.compile(r"\{([^{}]*)\}")


def issuer(settings: GridSettings) -> str:
    """Who the directory is to accounts: what names people for ever, not the address, which may change."""
    return f"ldap:{settings.ldap_id_attribute.lower()}"


def addresses(settings: GridSettings) -> list[str]:
    """The servers of the directory, which are asked in turn until one answers."""
    return settings.ldap_url.split()


def uses_starttls(settings: GridSettings) -> bool:
    """Whether TLS has to be turned on before anything is said."""
    return settings.ldap_starttls and all(urlsplit(url).scheme == "ldap" for url in addresses(settings))


def reads_groups(settings: GridSettings) -> bool:
    """Whether it matters here in which groups of the directory somebody is."""
    return bool(settings.ldap_groups or settings.ldap_allowed or settings.ldap_staff)


def faults(settings: GridSettings) -> tuple[str, ...]:
    """What is wrong with the settings, each with the variable and what would mend it; empty when there is no log-in."""
    if not settings.ldap_url:
        return ()
    return (*_of_packages(), *_of_addresses(settings), *_of_people(settings), *_of_groups(settings))


def _of_packages() -> Iterator[str]:
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        mend = "pip install -r requirements-ldap.txt, or unset GRID_LDAP_URL"
        yield f"GRID_LDAP_URL wants packages that are not here ({', '.join(absent)}): {mend}"


def _of_addresses(settings: GridSettings) -> Iterator[str]:
    urls = [urlsplit(url) for url in addresses(settings)]
    schemes = {url.scheme for url in urls}
    if not schemes <= set(SCHEMES) or any(not url.hostname for url in urls if url.scheme != "ldapi"):
        yield f'GRID_LDAP_URL is "{settings.ldap_url}": write ldaps://HOST or ldap://HOST, several with spaces between'
        return
    if len(schemes) > 1:
        yield "GRID_LDAP_URL names servers of several kinds: let all begin with ldaps://, or all with ldap://"
    clear = [url.hostname for url in urls if url.scheme == "ldap" and not _is_here(url.hostname or "")]
    if clear and not settings.ldap_starttls and not settings.ldap_plaintext:
        mend = "leave it out, or use ldaps://; if that is really meant, set GRID_LDAP_PLAINTEXT=true too"
        yield f"GRID_LDAP_STARTTLS=false would send passwords to {clear[0]} in clear: {mend}"
    if settings.ldap_ca_file and not os.access(settings.ldap_ca_file, os.R_OK):
        yield f"GRID_LDAP_CA_FILE is {settings.ldap_ca_file}, which cannot be read: name a file of certificates in PEM"


def _of_people(settings: GridSettings) -> Iterator[str]:
    if bool(settings.ldap_user_dn) == bool(settings.ldap_base):
        one = "GRID_LDAP_BASE, below which people are looked for, or GRID_LDAP_USER_DN, a template of their DNs"
        yield f"how people are found is said {'twice' if settings.ldap_base else 'nowhere'}: set one of {one}"
    if settings.ldap_user_dn:
        yield from _of_template("GRID_LDAP_USER_DN", settings.ldap_user_dn, {"name"})
    if settings.ldap_base:
        yield from _of_filter("GRID_LDAP_FILTER", settings.ldap_filter, {"name"})
    if bool(settings.ldap_bind_dn) != bool(settings.ldap_bind_password):
        lacking = "GRID_LDAP_BIND_PASSWORD" if settings.ldap_bind_dn else "GRID_LDAP_BIND_DN"
        yield f"{lacking} is missing: the account that looks for people has both, or there is none"
    for name in ("ldap_id_attribute", "ldap_name_attribute"):
        if not getattr(settings, name):
            yield f"GRID_{name.upper()} is empty: leave it out, or name an attribute"


def _of_groups(settings: GridSettings) -> Iterator[str]:
    if not reads_groups(settings):
        return
    if not settings.ldap_group_base:
        yield "GRID_LDAP_GROUP_BASE is missing: groups are set, so say below which DN of the directory they are"
    yield from _of_filter("GRID_LDAP_GROUP_FILTER", settings.ldap_group_filter, {"name", "dn"})


def _of_filter(variable: str, text: str, places: set[str]) -> Iterator[str]:
    if not (text.startswith("(") and text.endswith(")") and text.count("(") == text.count(")")):
        yield f'{variable} is "{text}": a filter is within parentheses, such as (uid={{name}})'
    yield from _of_template(variable, text, places)


def _of_template(variable: str, text: str, places: set[str]) -> Iterator[str]:
    found = set(_PLACE.findall(text))
    if not found or not found <= places:
        wanted = " or ".join(f"{{{place}}}" for place in sorted(places))
        yield f'{variable} is "{text}": it needs {wanted} in it, and nothing else in braces'


def _is_here(host: str) -> bool:
    """Whether a host is this machine, so that nobody else hears what is said to it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def percent(template: str) -> str:
    """A template with ``{name}`` and ``{dn}`` as django-auth-ldap writes it: for ``%``, with ``user`` and ``dn``."""
    return template.replace("%", "%%").replace("{name}", "%(user)s").replace("{dn}", "%(dn)s")


def could_be(name: str, password: str) -> bool:
    """Whether this can be somebody's name and password.

    A directory takes an empty password for "nobody in particular" and says yes, and a token in a password's place is no
    business of it. It also finds "ada" for such spellings as "ada " and "a\\u00adda", of each of which wrong passwords
    would be counted by themselves.
    """
    if not password or "\0" in password or len(password) > LONGEST_PASSWORD or _TOKEN.fullmatch(password):
        return False
    try:
        UnicodeUsernameValidator()(name)
    except ValidationError:
        return False
    return len(name) <= 150 and unicodedata.normalize("NFKC", name) == name
