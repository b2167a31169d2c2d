"""Log-in and log-out, with a brake on guessing."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse

TRIES = 5
TRIES_OF_ADDRESS = 50
PAUSE_SECONDS = 60


def person(request: HttpRequest) -> User:
    """Who is logged in; views that ask are behind ``login_required``."""
    if not isinstance(request.user, User):
        raise TypeError("this view needs somebody who is logged in")
    return request.user


class ThrottledLogin(LoginView):
    """Log-in: after five wrong passwords for one name from one address, a minute's pause.

    The pause is for the pair, so that nobody can lock somebody else out; all names from one address share a wider
    brake.
    """

    template_name = "login.html"
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Check the password, unless it was wrong too often."""
        if any(cache.get(key, 0) >= most for key, most in self._brakes().items()):
            form = AuthenticationForm(request)
            response = self.render_to_response(
                self.get_context_data(form=form, pause_seconds=PAUSE_SECONDS), status=429
            )
            response.headers["Retry-After"] = str(PAUSE_SECONDS)
            return response
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """The right password takes the pair's brake off."""
        cache.delete(next(iter(self._brakes())))
        return super().form_valid(form)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Count the failure."""
        for key in self._brakes():
            cache.add(key, 0, PAUSE_SECONDS)
            try:
                cache.incr(key)
            except ValueError:  # it expired between the two lines
                cache.set(key, 1, PAUSE_SECONDS)
        return super().form_invalid(form)

    def _brakes(self) -> dict[str, int]:
        """The counters of this attempt, with the number at which each stops it."""
        address = self.request.META.get("REMOTE_ADDR", "")
        name = self.request.POST.get("username", "").casefold()
        pair = hashlib.sha256(f"{address}\0{name}".encode(errors="replace")).hexdigest()
        return {f"login-{pair}": TRIES, f"login-from-{address}": TRIES_OF_ADDRESS}
