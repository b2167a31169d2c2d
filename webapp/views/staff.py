"""Operators' pages: people, groups, what is decided for them and what they use of it, tokens, and the audit log."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import Group, User
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from grid.core.conf import conf
from grid.core.people import access, accounts, audit, quotas, standing, tokens
from grid.core.people.groups import CLIENTS
from tasks.accounts import NewPersonBody, PersonChange
from tasks.errors import GridError, NotFound
from tasks.profiles import EVERYBODYS
from tasks.terms import KEPT
from webapp.staffforms import NewGroupForm, NewUserForm, PersonForm, RulesForm
from webapp.views.people import only_operators, person

PAGE = 100

_View = Callable[..., HttpResponse]


def staff_only(view: _View) -> _View:
    """The view for operators; others are told so."""

    @login_required
    def guarded(request: HttpRequest, *args: str, **kwargs: str) -> HttpResponse:
        only_operators(request, "this page is for operators")
        return view(request, *args, **kwargs)

    return guarded


@staff_only
@require_http_methods(["GET", "HEAD", "POST"])
def overview(request: HttpRequest) -> HttpResponse:
    """Users and groups; new ones are made here."""
    if request.method == "POST":
        return _made(request)
    after = request.GET.get("after", "")
    rows = list(User.objects.filter(username__gt=after).order_by("username").prefetch_related("groups")[: PAGE + 1])
    book = standing.book(timezone.now())
    running = accounts.running(row.pk for row in rows)
    context = {
        "now": timezone.now(),
        "people": [(row, running.get(row.pk, 0), row.pk in book.users) for row in rows[:PAGE]],
        "next": rows[PAGE - 1].username if len(rows) > PAGE else "",
        "groups": Group.objects.annotate(members=Count("user")).order_by("name"),
        "ruled": {club.pk for club in book.clubs},
        "new_user": NewUserForm(auto_id="user_%s"),
        "new_group": NewGroupForm(auto_id="group_%s"),
        "server": _of_server(),
    }
    return render(request, "staff.html", context)


def _of_server() -> list[tuple[str, str]]:
    """What holds for everybody, by the server's settings."""
    found = conf()
    quota = found.user_quota.model_dump(exclude_none=True, exclude_defaults=True)
    kept = {kind: getattr(found.retention, kind) for kind in KEPT}
    days = [f"{kind}: " + ", ".join(f"{word} {number:g}" for word, number in kept[kind].items()) for kind in KEPT]
    return [
        ("Quota of each user", ", ".join(f"{name} {value}" for name, value in quota.items()) or "none"),
        ("Images", ", ".join(found.images) or "all"),
        ("Images put in place of others", ", ".join(f"{a} → {b}" for a, b in found.image_names.items()) or "none"),
        ("Container profiles for everybody", ", ".join([EVERYBODYS, *found.profiles])),
        ("Days kept after the end", "; ".join(one for one in days if not one.endswith(": ")) or "all for ever"),
        ("Contents that nothing uses", f"deleted after {found.retention_unused_days * 24:g} hours"),
        ("Who may submit", "everybody with an account" if found.open_submit else f"members of {CLIENTS}"),
    ]


def _made(request: HttpRequest) -> HttpResponse:
    """Make the user or the group of the form that was sent."""
    user_form, group_form = NewUserForm(request.POST), NewGroupForm(request.POST)
    if group_form.is_valid():
        group, _ = Group.objects.get_or_create(name=group_form.cleaned_data["group"])
        return redirect("staff-group", group.name)
    if not user_form.is_valid():
        messages.error(request, "Give it a name.")
        return redirect("staff")
    wanted = NewPersonBody(name=user_form.cleaned_data["name"], email=user_form.cleaned_data["email"])
    try:
        made = accounts.add_person(wanted)
    except GridError as error:
        messages.error(request, str(error))
        return redirect("staff")
    # Shown in the answer itself and kept nowhere.
    return render(request, "staff_password.html", {"name": made.name, "password": made.password}, status=201)


@staff_only
@require_http_methods(["GET", "HEAD", "POST"])
def user_page(request: HttpRequest, name: str) -> HttpResponse:
    """One user: groups, account, and what is decided for them."""
    user = User.objects.filter(username=name).first()
    if user is None:
        raise Http404(f'there is no user "{name}"')
    chosen = {"groups": user.groups.all(), "active": user.is_active}
    membership = PersonForm(request.POST or None, initial=chosen, auto_id="person_%s")
    if request.method == "POST" and "membership" in request.POST and membership.is_valid():
        wanted = membership.cleaned_data
        change = PersonChange(groups=tuple(group.name for group in wanted["groups"]), active=wanted["active"])
        accounts.change_person(name, change, by=person(request).username, now=timezone.now())
        messages.info(request, "Saved.")
        return redirect("staff-user", user.username)
    return _ruled(request, user, f"User {user.username}", {"membership": membership})


@staff_only
@require_http_methods(["GET", "HEAD", "POST"])
def group_page(request: HttpRequest, name: str) -> HttpResponse:
    """One group: its members, and what is decided for them."""
    group = Group.objects.filter(name=name).first()
    if group is None:
        raise Http404(f'there is no group "{name}"')
    members = list(group.user_set.order_by("username").values_list("username", flat=True)[:PAGE])
    return _ruled(request, group, f"Group {group.name}", {"members": members, "is_group": True})


def _ruled(request: HttpRequest, of: User | Group, title: str, more: dict[str, object]) -> HttpResponse:
    """The page of a user or group with the form of its rules."""
    now = timezone.now()
    form = RulesForm(request.POST) if "rules" in request.POST else RulesForm.of(standing.rules_of(of))
    if request.method == "POST" and form.is_bound and form.is_valid():
        standing.decide(of, form.rules, by=person(request).username, now=now)
        access.forget()
        messages.info(request, "Saved. It holds for tasks that are submitted or started from now on.")
        return redirect(request.path)
    used = [(bound, quotas.usage(bound, now)) for bound in accounts.bounds_of(of, now)]
    context = {"title": title, "form": form, "used": used, **more}
    return render(request, "staff_rules.html", context, status=422 if form.errors else 200)


@staff_only
@require_http_methods(["GET", "HEAD", "POST"])
def token_page(request: HttpRequest) -> HttpResponse:
    """Everybody's tokens, newest first; what is sent ends one of them."""
    if request.method == "POST":
        return _revoked(request)
    owner, after = request.GET.get("owner", "")[:150], _number(request.GET.get("after", ""))
    page = tokens.page(person(request), owner=owner, after=after, limit=PAGE)
    older = urlencode({"owner": owner, "after": page.next}) if page.next else ""
    context = {"now": timezone.now(), "tokens": page.items, "owner": owner, "older": older}
    return render(request, "staff_tokens.html", context)


def _revoked(request: HttpRequest) -> HttpResponse:
    number = _number(request.POST.get("token", ""))
    try:
        tokens.revoke(person(request), int(number or 0))
    except NotFound as error:
        raise Http404(str(error)) from None
    messages.info(request, "The token opens nothing any more.")
    return redirect(request.get_full_path())


def _number(text: str) -> str:
    """The text, if it is the number of something; nothing otherwise."""
    return text if text.isascii() and text.isdigit() and len(text) < 19 else ""


@staff_only
@require_safe
def audit_page(request: HttpRequest) -> HttpResponse:
    """The audit log, newest first."""
    asked = {name: request.GET.get(name, "")[:150] for name in ("actor", "action")}
    after = _number(request.GET.get("after", ""))
    rows = audit.entries(**asked, before=int(after) if after else None, limit=PAGE + 1)
    older = urlencode({**asked, "after": rows[PAGE - 1].id}) if len(rows) > PAGE else ""
    return render(request, "audit.html", {"entries": rows[:PAGE], "asked": asked, "older": older})
