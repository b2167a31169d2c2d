"""The servers of a directory (LDAP): how they are spoken to, and whether they answer as the settings want it.

The only module of ``grid`` that needs python-ldap, which is not among the requirements: import it late.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

import ldap
import ldap.dn

from grid.core.conf import GridSettings
from grid.core.people.directory import addresses, reads_groups, uses_starttls
from tasks.units import human_seconds
from tasks.views import Finding, Level

AWAY = (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.TIMEOUT, ldap.BUSY, ldap.UNAVAILABLE)
"""The directory does not answer, or not as the one that is meant: its certificate is not believed."""

REFUSED = (
    ldap.INVALID_CREDENTIALS,
    ldap.INAPPROPRIATE_AUTH,
    ldap.UNWILLING_TO_PERFORM,
    ldap.CONSTRAINT_VIOLATION,
    ldap.INSUFFICIENT_ACCESS,
    ldap.INVALID_DN_SYNTAX,
    ldap.NO_SUCH_OBJECT,
)
"""How servers say that somebody cannot log in: a wrong password, none, a closed or locked account, nobody."""


# RFC 4511, 4.14: message 1, an extended request for TLS; and where a result has its code, which is 0 for yes.
_STARTTLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
_RESULT = b"\x0a\x01"


def connection_options(settings: GridSettings) -> dict[int, Any]:
    """Options of a connection, in the order in which they have to be set.

    No referrals: a server must not send the password on to another. The certificate has to be right, whatever
    the machine's own ldap.conf says.
    """
    files = {ldap.OPT_X_TLS_CACERTFILE: settings.ldap_ca_file} if settings.ldap_ca_file else {}
    return {
        ldap.OPT_REFERRALS: 0,
        ldap.OPT_NETWORK_TIMEOUT: settings.ldap_timeout_seconds,
        ldap.OPT_TIMEOUT: settings.ldap_timeout_seconds,
        ldap.OPT_X_TLS_REQUIRE_CERT: ldap.OPT_X_TLS_DEMAND,
        **files,
        ldap.OPT_X_TLS_NEWCTX: 0,
    }


def answering(settings: GridSettings) -> str:
    """The address of the first server that answers within the time; raises SERVER_DOWN when none does.

    Asked before each use, because the library, as GnuTLS makes it, waits for the beginning of TLS without an end, and
    does not rest meanwhile. Whom the certificate names is not looked at here: that the library does.
    """
    silent = []
    for address in addresses(settings):
        url = urlsplit(address)
        try:
            if url.scheme != "ldapi":
                _knock(url, settings, starttls=uses_starttls(settings))
        except OSError as error:
            silent.append(f"{address}: {error}")
        else:
            return address
    raise ldap.SERVER_DOWN({"desc": "Can't contact LDAP server", "info": "; ".join(silent)})


def _knock(url: SplitResult, settings: GridSettings, *, starttls: bool) -> None:
    """Return when a server has begun to speak, whatever it says; raises OSError when it does not in time."""
    seconds = settings.ldap_timeout_seconds
    where = url.hostname or "", url.port or (636 if url.scheme == "ldaps" else 389)
    with socket.create_connection(where, timeout=seconds) as connection:
        if starttls:
            connection.sendall(_STARTTLS)
            found = connection.recv(256).partition(_RESULT)[2]
            if found[:1] != b"\0":
                return  # it refuses, or is something else: the library will tell
        if not starttls and url.scheme != "ldaps":
            return
        anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
        try:
            anything.wrap_socket(connection, server_hostname=url.hostname).close()
        except ssl.SSLError:
            return  # it speaks, if not to us


def words_of(error: ldap.LDAPError) -> str:
    """What the library says, in one line: its own word, and what the server or TLS added."""
    told = error.args[0] if error.args and isinstance(error.args[0], Mapping) else {}
    parts = [str(told.get(name) or "") for name in ("desc", "info")]
    return ": ".join(part for part in parts if part) or type(error).__name__


def held(wanted: Iterable[str], groups: Sequence[tuple[str, Sequence[str]]]) -> frozenset[str]:
    """Which of the wanted groups are among those found, which are pairs of DN and names.

    A group is wanted by its name or, if that looks like one, by its DN; as in directories, case does not matter.
    """
    names = {name.casefold() for _, own in groups for name in own}
    dns = {normal(dn) for dn, _ in groups}
    return frozenset(one for one in wanted if one.casefold() in names or ("=" in one and normal(one) in dns))


def normal(dn: str) -> str:
    """A DN in one of the ways in which it can be written; what is none stays as it is."""
    try:
        parts = ldap.dn.str2dn(dn.casefold())
    except ldap.DECODING_ERROR:
        return dn
    return str(ldap.dn.dn2str(parts))


def look(settings: GridSettings) -> Finding:
    """Whether the directory answers, takes our account, and has the places where people and groups are looked for."""
    begun = time.monotonic()
    step = "it does not answer"
    try:
        server = ldap.initialize(answering(settings))
        for option, value in connection_options(settings).items():
            server.set_option(option, value)
        if uses_starttls(settings):
            step = "TLS cannot be turned on"
            server.start_tls_s()
            step = "it does not answer"
        if settings.ldap_bind_dn or not settings.ldap_user_dn:
            step = "the account of GRID_LDAP_BIND_DN cannot log in" if settings.ldap_bind_dn else step
            server.simple_bind_s(settings.ldap_bind_dn, settings.ldap_bind_password)
            for variable, base in _bases(settings):
                step = f"{variable} ({base}) cannot be read"
                server.search_s(base, ldap.SCOPE_BASE, attrlist=["1.1"])
        else:
            # Whoever logs in reads for themselves. Now somebody has to answer, and nobody can read.
            server.search_s("", ldap.SCOPE_BASE, attrlist=["1.1"])
    except ldap.LDAPError as error:
        hint = "people with passwords here still log in; look at GRID_LDAP_* (docs/login.md), and at its own log"
        detail = f"{settings.ldap_url}: {step}: {words_of(error)}"
        return Finding(name="directory", level=Level.FAIL, detail=detail, hint=hint)
    seconds = human_seconds(round(time.monotonic() - begun, 3))
    return Finding(name="directory", level=Level.PASS, detail=f"{settings.ldap_url} answers in {seconds}")


def _bases(settings: GridSettings) -> list[tuple[str, str]]:
    found = [("GRID_LDAP_BASE", settings.ldap_base)] if settings.ldap_base else []
    return [*found, ("GRID_LDAP_GROUP_BASE", settings.ldap_group_base)] if reads_groups(settings) else found
