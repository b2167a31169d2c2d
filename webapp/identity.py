"""Log-in with an external identity by OpenID Connect: off until ``GRID_OIDC_ISSUER`` is set.

The flow (authorization code with PKCE, state and nonce) is mozilla-django-oidc's. Here its settings come from the
provider's own description, and what it leaves open is checked: who issued the identity, for whom, and about whom.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
import requests
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.exceptions import SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from mozilla_django_oidc.auth import OIDCAuthenticationBackend
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView, OIDCAuthenticationRequestView

from grid.core.conf import conf
from grid.core.people import audit
from grid.core.people.identity import Admission, Outsider, account_of
from tasks.errors import NotAllowed

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
KEPT_SECONDS = 600.0
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""How identities may be signed: with keys of the provider's own. A shared secret, or nothing, is not taken."""

_WELL_KNOWN = "/.well-known/openid-configuration"
_FAULTS = (requests.RequestException, jwt.PyJWTError, SuspiciousOperation, KeyError, ValueError, TypeError)


@dataclass(frozen=True, slots=True)
class Provider:
    """What a provider says of itself."""

    issuer: str
    authorization: str
    token: str
    userinfo: str
    keys: str
    algorithm: str
    basic: bool


_described: dict[str, tuple[float, Provider]] = {}


def provider() -> Provider:
    """The provider's description, asked for anew every ten minutes.

    Raises requests.RequestException when it does not answer, KeyError or ValueError for an answer that will not do.
    """
    issuer = conf().oidc_issuer.rstrip("/")
    known = _described.get(issuer)
    if known is None or time.monotonic() - known[0] > KEPT_SECONDS:
        answer = requests.get(issuer + _WELL_KNOWN, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        known = time.monotonic(), _read(answer.json(), issuer)
        _described[issuer] = known
    return known[1]


def _read(told: dict[str, Any], issuer: str) -> Provider:
    if str(told["issuer"]).rstrip("/") != issuer:
        raise ValueError(f"the provider at {issuer} calls itself {told['issuer']}")
    signs = told["id_token_signing_alg_values_supported"]
    wanted = conf().oidc_algorithm
    if wanted not in ALGORITHMS or wanted not in signs:
        raise ValueError(f"GRID_OIDC_ALGORITHM is {wanted}; the provider signs with {', '.join(signs)}")
    # The default of the standard is client_secret_basic.
    ways = told.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Provider(
        issuer=str(told["issuer"]),
        authorization=told["authorization_endpoint"],
        token=told["token_endpoint"],
        userinfo=told["userinfo_endpoint"],
        keys=told["jwks_uri"],
        algorithm=wanted,
        basic="client_secret_basic" in ways,
    )


def _setting(name: str, *default: Any) -> Any:
    """A setting as mozilla-django-oidc names it."""
    known: dict[str, Callable[[], Any]] = {
        "OIDC_OP_AUTHORIZATION_ENDPOINT": lambda: provider().authorization,
        "OIDC_OP_TOKEN_ENDPOINT": lambda: provider().token,
        "OIDC_OP_USER_ENDPOINT": lambda: provider().userinfo,
        "OIDC_OP_JWKS_ENDPOINT": lambda: provider().keys,
        "OIDC_RP_SIGN_ALGO": lambda: provider().algorithm,
        "OIDC_TOKEN_USE_BASIC_AUTH": lambda: provider().basic,
        "OIDC_RP_CLIENT_ID": lambda: conf().oidc_client_id,
        "OIDC_RP_CLIENT_SECRET": lambda: conf().oidc_client_secret,
        "OIDC_RP_SCOPES": lambda: conf().oidc_scopes,
        "OIDC_AUTHENTICATION_CALLBACK_URL": lambda: "oidc-callback",
        "OIDC_TIMEOUT": lambda: TIMEOUT_SECONDS,
        "OIDC_USE_PKCE": lambda: True,
        "LOGIN_REDIRECT_URL_FAILURE": lambda: settings.LOGIN_URL,
    }
    found = known.get(name)
    return found() if found is not None else getattr(settings, name, *default)


class OpenIdBackend(OIDCAuthenticationBackend):  # type: ignore[misc]  # the package has no types
    """Turns an identity that the provider signed for this grid into an account here."""

    get_settings = staticmethod(_setting)

    def __init__(self) -> None:
        """Nothing is asked: Django makes one of these for each request of somebody who is logged in."""
        self.UserModel = User

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> User | None:
        """The account of who comes back from the provider; credentials of other kinds are not for this."""
        if request is None or not conf().oidc_issuer or not credentials.get("nonce"):
            return None
        super().__init__()
        user: User | None = super().authenticate(request, **credentials)
        return user if user is not None and user.is_active else None

    def get_user(self, user_id: int) -> User | None:
        """The account of a session, unless it was closed."""
        found = ModelBackend().get_user(user_id)
        return found if isinstance(found, User) else None

    def verify_token(self, token: str, **expected: Any) -> dict[str, Any]:
        """What the signed identity says; raises SuspiciousOperation unless it is the provider's, for us, and fresh."""
        if jwt.get_unverified_header(token).get("alg") != self.OIDC_RP_SIGN_ALGO:
            raise SuspiciousOperation("the identity is signed in another way")
        told: dict[str, Any] = super().verify_token(token, **expected)
        audience = told["aud"] if isinstance(told.get("aud"), list) else [told.get("aud")]
        ours = conf().oidc_client_id
        if told.get("iss") != provider().issuer or ours not in audience or told.get("azp", ours) != ours:
            raise SuspiciousOperation("the identity was issued by or for somebody else")
        if "exp" not in told:
            raise SuspiciousOperation("the identity never expires")
        return told

    def retrieve_matching_jwk(self, token: str) -> jwt.PyJWK:
        """The provider's key that signed this; a provider with a single key need not name it."""
        answer = requests.get(provider().keys, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        name, algorithm = jwt.get_unverified_header(token).get("kid"), provider().algorithm
        fitting = [
            one
            for one in answer.json()["keys"]
            if name in (None, one.get("kid"))
            and one.get("kty") == ("RSA" if algorithm.startswith("RS") else "EC")
            and one.get("alg", algorithm) == algorithm
            and one.get("use", "sig") == "sig"
        ]
        if len(fitting) != 1:
            raise SuspiciousOperation("the provider has no such key")
        return jwt.PyJWK(fitting[0], algorithm)

    def get_or_create_user(self, access_token: str, id_token: str, payload: dict[str, Any]) -> User:
        """The account; raises NotAllowed for somebody who cannot have one, ValueError for mixed-up answers."""
        claims: dict[str, Any] = self.get_userinfo(access_token, id_token, payload)
        if not payload.get("sub") or claims.get("sub") != payload["sub"]:
            raise ValueError("the provider's two answers are about two people")
        return account_of(_outsider({**payload, **claims}), _admission())


def _outsider(claims: dict[str, Any]) -> Outsider:
    groups = claims.get(conf().oidc_groups_claim) or []
    names = [groups] if isinstance(groups, str) else groups
    return Outsider(
        issuer=provider().issuer,
        subject=str(claims["sub"]),
        name=str(claims.get(conf().oidc_name_claim) or ""),
        email=str(claims.get("email") or ""),
        groups=frozenset(str(name) for name in names),
    )


def _admission() -> Admission:
    found = conf()
    return Admission(groups=found.oidc_groups, staff=found.oidc_staff, adopt=found.oidc_adopt)


class Begin(OIDCAuthenticationRequestView):  # type: ignore[misc]  # the package has no types
    """Sends the browser to the provider."""

    get_settings = staticmethod(_setting)

    def __init__(self, **initial: Any) -> None:
        """The provider is asked when the request is answered."""

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Remember state, nonce and PKCE's verifier in the session, and go there."""
        if not conf().oidc_issuer:
            raise Http404("no external log-in is set up")
        try:
            super().__init__()
            answer: HttpResponseBase = super().get(request)
        except _FAULTS as error:
            return _failed(request, error)
        return answer


class Return(OIDCAuthenticationCallbackView):  # type: ignore[misc]  # the package has no types
    """Takes the browser back from the provider."""

    get_settings = staticmethod(_setting)

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Log in, or say on the log-in page what was wrong."""
        if not conf().oidc_issuer:
            raise Http404("no external log-in is set up")
        try:
            answer: HttpResponseBase = super().get(request)
        except NotAllowed as error:
            return _failed(request, error, f"You cannot log in this way: {error}.")
        except _FAULTS as error:
            return _failed(request, error)
        return answer

    def login_failure(self) -> HttpResponse:
        """The provider or the person said no, or the account is closed."""
        return _failed(self.request, None, "The external log-in was refused or given up. Try again.")


begin = Begin.as_view()
back = Return.as_view()


def _failed(request: HttpRequest, error: Exception | None, words: str = "") -> HttpResponse:
    if error is not None:
        logger.warning("external log-in failed: %r", error, extra={"action": "refuse"})
        audit.note("login_failed", "(external)", timezone.now(), by="-", why=type(error).__name__)
    text = words or "The external log-in did not work. Try again; if it stays so, tell the operator."
    messages.error(request, text)
    return redirect(settings.LOGIN_URL)
