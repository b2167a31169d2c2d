"""One's own account: tokens, quotas, and whether one's groups see one's tasks."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from grid.core.models import Token
from grid.core.people import accounts, members, quotas, standing, tokens
from grid.core.people.tokens import Scope
from tasks.errors import NotFound
from webapp.staffforms import TokenForm
from webapp.views.people import person

_OPENS = {
    "read": (Scope.READ,),
    "submit": (Scope.READ, Scope.SUBMIT),
    "admin": (Scope.READ, Scope.SUBMIT, Scope.ADMIN),
}


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    """Tokens and quotas of who is logged in; a new token is shown in the answer, this once."""
    user, now = person(request), timezone.now()
    form = TokenForm(request.POST or None)
    if not user.is_staff:
        form.fields["opens"].choices = form.fields["opens"].choices[:2]  # type: ignore[attr-defined]
    clear = ""
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        until = now + timedelta(days=given["days"]) if given["days"] else None
        scopes = _OPENS[given["opens"]]
        clear = tokens.create(owner=user, name=given["name"], scopes=scopes, now=now, expires_at=until)[1]
        form = TokenForm()
    context = {
        "now": now,
        "form": form,
        "clear": clear,
        "tokens": Token.objects.filter(owner=user).select_related("node").order_by("-id")[:200],
        "used": [(bound, quotas.usage(bound, now)) for bound in standing.bounds(user.pk, now)],
        "groups": user.groups.order_by("name"),
        "share": standing.rules_of(user).share,
    }
    response = render(request, "account.html", context, status=201 if clear else 422 if form.errors else 200)
    response.headers["Cache-Control"] = "no-store"
    return response


@login_required
@require_POST
def revoke(request: HttpRequest, token_id: int) -> HttpResponse:
    """Make one of one's own tokens worthless."""
    try:
        tokens.revoke(person(request), token_id)
    except NotFound as error:
        raise Http404(str(error)) from None
    messages.info(request, "The token opens nothing any more.")
    return redirect("account")


@login_required
@require_POST
def end_sessions(request: HttpRequest) -> HttpResponse:
    """Log out everywhere: here, and in every other browser."""
    user = person(request)
    ended = members.end_sessions(user, timezone.now())
    logout(request)
    messages.info(request, f"You are logged out everywhere ({ended} log-in{'' if ended == 1 else 's'}).")
    return redirect("login")


@login_required
@require_POST
def share(request: HttpRequest) -> HttpResponse:
    """Let one's groups see one's tasks, or not any more."""
    user, wish = person(request), request.POST.get("share") == "on"
    accounts.share(user, timezone.now(), wish=wish)
    messages.info(request, "Your groups see your tasks." if wish else "Only you (and operators) see your tasks.")
    return redirect("account")
