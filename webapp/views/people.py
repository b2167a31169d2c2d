"""Log-in and log-out, with a brake on guessing."""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime
from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from grid.core.conf import conf
from grid.core.people import throttle
from webapp.refusals import refusal_of


def person(request: HttpRequest) -> User:
    """Who is logged in; views that ask are behind ``login_required``."""
    if not isinstance(request.user, User):
        raise TypeError("this view needs somebody who is logged in")
    return request.user


def only_operators(request: HttpRequest, words: str) -> None:
    """Raises PermissionDenied with ``words`` for whoever is no operator."""
    if not person(request).is_staff:
        raise PermissionDenied(words)


@method_decorator(never_cache, name="dispatch")
class ThrottledLogin(LoginView):
    """Log-in: after five wrong passwords for one name from one address a pause, which doubles with each further one.

    What counts, and for how long, is in ``tasks/brakes.py``. All ways to log in with a password lead here.
    """

    template_name = "login.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """With the words of other log-ins, where there are some, and why this one was refused."""
        directory = conf().ldap_label if conf().ldap_url else ""
        external = conf().oidc_label if conf().oidc_issuer else ""
        refusal = refusal_of(self.request)
        return super().get_context_data(external=external, directory=directory, refusal=refusal, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Check the password, unless it was wrong too often."""
        now = timezone.now()
        until = throttle.login_pause(self._name, self._address, now)
        if until is not None:
            return self._paused(until, now)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """The right password takes the name's brakes off; what is left of sessions that have expired goes."""
        throttle.login_succeeded(self._name, self._address)
        answer = super().form_valid(form)
        self.request.session.clear_expired()
        return answer

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Count the failure, if a password was wrong."""
        refusal = refusal_of(self.request)
        if refusal is None or refusal.counts:
            throttle.login_failed(self._name, self._address, timezone.now())
        return super().form_invalid(form)

    def _paused(self, until: datetime, now: datetime) -> HttpResponse:
        """Say when to try again."""
        seconds = math.ceil((until - now).total_seconds())
        context = self.get_context_data(form=AuthenticationForm(self.request), until=until, pause=_words(seconds))
        response = self.render_to_response(context, status=429)
        response.headers["Retry-After"] = str(seconds)
        return response

    @property
    def _name(self) -> str:
        """What was typed, as the form takes it: other spellings of one name are not counted by themselves."""
        return unicodedata.normalize("NFKC", self.request.POST.get("username", "").strip())

    @property
    def _address(self) -> str:
        return str(self.request.META.get("REMOTE_ADDR") or "")


def operators_login(request: HttpRequest) -> HttpResponse:
    """The admin's own log-in is the one of all pages, with its brake; who is in already and no operator is told so."""
    if request.user.is_authenticated:
        raise PermissionDenied("these pages are for operators")
    return redirect_to_login(request.GET.get("next") or "/admin/")


def _words(seconds: int) -> str:
    if seconds < 100:
        return f"{seconds} seconds"
    return f"{math.ceil(seconds / 60)} minutes"
