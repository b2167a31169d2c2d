"""Log-in by a directory (LDAP): off until ``GRID_LDAP_URL`` is set. Needs the packages of requirements-ldap.txt.

Finding people and trying their passwords is django-auth-ldap's work. Here its settings come from ours, accounts are
made as for every external log-in, and what is not a wrong password is told apart: the directory is away, or somebody is
in none of the groups that may log in.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

import ldap
from asgiref.sync import sync_to_async
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone
from django_auth_ldap.backend import LDAPBackend, ldap_error
from django_auth_ldap.config import LDAPSearch

from grid.core.conf import GridSettings, conf
from grid.core.people import audit, ldapserver
from grid.core.people.directory import could_be, issuer, percent, reads_groups, uses_starttls
from grid.core.people.identity import Admission, Outsider, account_of, may_open
from tasks.errors import NotAllowed
from webapp.refusals import Refusal, refuse

logger = logging.getLogger(__name__)

AWAY_SECONDS = 5.0
"""After a question without an answer nobody is made to wait for another one so long."""

_AWAY = (
    "The directory does not answer, so that only people with a password of this grid can log in now. Try again soon."
)
_UNFIT = "The directory does not do what this grid asks of it. Try again; if it stays so, tell the operator."


class DirectoryError(Exception):
    """The directory could not tell whether the password is right, or who somebody is."""

    def __init__(self, error: Exception) -> None:
        super().__init__(ldapserver.words_of(error) if isinstance(error, ldap.LDAPError) else str(error))
        self.away = isinstance(error, ldapserver.AWAY)


class _Silence:
    """Until when this process does not ask a directory that did not answer."""

    until = 0.0


class LdapBackend(LDAPBackend, ModelBackend):  # type: ignore[misc]  # the package has no types
    """Lets people in whose password the directory takes, if its settings and groups let them."""

    settings_prefix = "GRID_LDAP_OF_DJANGO_"

    def __init__(self) -> None:
        """Nothing is asked: Django makes one of these for each request of somebody who is logged in."""
        self.default_settings = _options(conf())

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **other: Any
    ) -> User | None:
        """The account of who has this name and password in the directory.

        None for a wrong one; then ``refusals`` knows more where there is more to say. An account here that the
        directory has nothing to do with is not for this.
        """
        name, found = username or "", conf()
        if not found.ldap_url or not could_be(name, password or ""):
            return None
        if not may_open(name, issuer(found), _admission(found)):
            return None
        try:
            user = self._account(request, name, password)
        except DirectoryError as error:
            _told_nothing(request, name, error)
        except NotAllowed as error:
            _not_let_in(request, name, f"You cannot log in this way: {error}.", str(error))
        else:
            if user is None or user.is_active:
                return user
            _not_let_in(request, name, "Your account here is closed; ask the operator.", "the account is closed")
        return None

    def _account(self, request: HttpRequest | None, name: str, password: str | None) -> User | None:
        if time.monotonic() < _Silence.until:
            raise DirectoryError(ldap.SERVER_DOWN({"desc": "it did not answer a moment ago"}))
        user = super().authenticate(request, username=name, password=password)
        return user if isinstance(user, User) else None

    async def aauthenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **other: Any
    ) -> User | None:
        """The same, for who may not wait."""
        return await sync_to_async(self.authenticate)(request, username, password, **other)

    def get_or_build_user(self, username: str, ldap_user: Any) -> tuple[User, bool]:
        """The account of whose password was right; raises NotAllowed, and DirectoryError where who it is stays unclear.

        The package calls this; False tells it that nothing of the account is left to fill in.
        """
        try:
            return _admitted(ldap_user), False
        except ldap.LDAPError as error:
            raise DirectoryError(error) from error

    def get_user(self, user_id: int) -> User | None:
        """The account of a session, unless it was closed; the directory is not asked."""
        found = ModelBackend.get_user(self, user_id)
        return found if isinstance(found, User) else None


def _options(found: GridSettings) -> dict[str, Any]:
    """The settings of django-auth-ldap."""
    attributes = ["*", found.ldap_id_attribute, found.ldap_name_attribute, found.ldap_email_attribute]
    attributes = [name for name in attributes if name]
    search = LDAPSearch(found.ldap_base, ldap.SCOPE_SUBTREE, percent(found.ldap_filter), attributes)
    return {
        "SERVER_URI": lambda request: ldapserver.answering(found),
        "START_TLS": uses_starttls(found),
        "CONNECTION_OPTIONS": ldapserver.connection_options(found),
        "BIND_DN": found.ldap_bind_dn,
        "BIND_PASSWORD": found.ldap_bind_password,
        # Without an account to look with, people read for themselves.
        "BIND_AS_AUTHENTICATING_USER": not found.ldap_bind_dn,
        "PERMIT_EMPTY_PASSWORD": False,
        "USER_DN_TEMPLATE": percent(found.ldap_user_dn) if found.ldap_user_dn else None,
        "USER_SEARCH": search,
        "USER_ATTRLIST": attributes,
        "ALWAYS_UPDATE_USER": False,
    }


def _admission(found: GridSettings) -> Admission:
    return Admission(groups=found.ldap_groups, staff=found.ldap_staff, adopt=found.ldap_adopt)


def _admitted(ldap_user: Any) -> User:
    found = conf()
    attributes = ldap_user.attrs or {}
    name = _text(attributes, found.ldap_name_attribute)
    subject = _lasting(attributes, found.ldap_id_attribute)
    if not name or not subject:
        lacking = found.ldap_id_attribute if name else found.ldap_name_attribute
        raise DirectoryError(ValueError(f"it does not tell the attribute {lacking} of {ldap_user.dn}"))
    groups = _groups(ldap_user, name, found) if reads_groups(found) else frozenset()
    if found.ldap_allowed and not groups & set(found.ldap_allowed):
        raise NotAllowed("you are in none of the groups of the directory that may log in here")
    email = _text(attributes, found.ldap_email_attribute)
    who = Outsider(issuer=issuer(found), subject=subject, name=name, email=email, groups=groups)
    return account_of(who, _admission(found))


def _groups(ldap_user: Any, name: str, found: GridSettings) -> frozenset[str]:
    """Which of the groups that are set this person is in now."""
    search = LDAPSearch(found.ldap_group_base, ldap.SCOPE_SUBTREE, percent(found.ldap_group_filter), ["cn"])
    answer = search.execute(ldap_user.connection, {"dn": ldap_user.dn, "user": name})
    wanted = {*found.ldap_groups, *found.ldap_allowed, *([found.ldap_staff] if found.ldap_staff else [])}
    return ldapserver.held(wanted, [(dn, [str(one) for one in told.get("cn", [])]) for dn, told in answer])


def _text(attributes: Any, name: str) -> str:
    """The first value of an attribute; empty where there is none, or no text."""
    value = (attributes.get(name) or [""])[0]
    return value if isinstance(value, str) else ""


def _lasting(attributes: Any, name: str) -> str:
    """The first value of an attribute that may be bytes, such as Active Directory's number of an object.

    The package makes text of all bytes that could be text, by chance these too.
    """
    value = (attributes.get(name) or [""])[0]
    raw = value if isinstance(value, bytes) else str(value).encode()
    if name.lower() == "objectguid" and len(raw) == 16:
        return str(uuid.UUID(bytes_le=raw))
    return raw.hex() if isinstance(value, bytes) else str(value)


def _told_nothing(request: HttpRequest | None, name: str, error: DirectoryError) -> None:
    """The password was not judged; a password of this grid, which was wrong, is a guess nevertheless."""
    logger.error("the directory does not help to log in: %s", error, extra={"action": "refuse"})
    if error.away:
        _Silence.until = max(_Silence.until, time.monotonic() + AWAY_SECONDS)
    guess = any(user.has_usable_password() for user in User.objects.filter(username__iexact=name))
    refuse(request, Refusal(_AWAY if error.away else _UNFIT, counts=guess))


def _not_let_in(request: HttpRequest | None, name: str, words: str, why: str) -> None:
    """The password was right, so that the name is nobody's secret."""
    audit.note("login_refused", name, timezone.now(), by="-", why=why)
    refuse(request, Refusal(words, counts=False))


def _failed(context: str, exception: ldap.LDAPError, **sent: Any) -> None:
    """Let an error be known which the package would take for a wrong password.

    What a server says of the person's own name and password stays one: only then it was asked to "authenticate".
    """
    if context == "authenticate" and isinstance(exception, ldapserver.REFUSED):
        return
    raise DirectoryError(exception)


ldap_error.connect(_failed, sender=LdapBackend, dispatch_uid="webapp.directory")
