"""Who did what to what, when and from where: rows that are added and never changed.

Verbs note what they do; accounts, tokens, secrets and Django's own pages are watched by their signals. Who acts, and
from where, is known by the door that the request came through (``acting``), or it is a command on the server.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.utils import timezone

from grid.core.models import AuditEntry, Secret, Token

Datum = str | int | float | bool | None | list[str] | dict[str, Any]
COMMAND = "command line"
_WATCHED = ("password", "is_active", "is_staff", "is_superuser", "email")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who acts (asked only when it is needed), and from which address."""

    actor: Callable[[], str]
    address: str


_origin: ContextVar[Origin | None] = ContextVar("audit_origin", default=None)


@contextmanager
def acting(actor: Callable[[], str], address: str) -> Iterator[None]:
    """All that is noted inside was done by this actor from this address."""
    token = _origin.set(Origin(actor, address))
    try:
        yield
    finally:
        _origin.reset(token)


def note(action: str, target: str, now: datetime, *, by: str = "", **detail: Datum) -> None:
    """Add an entry; it belongs into the transaction of what it tells. ``by`` is who acts where a verb was told."""
    origin = _origin.get()
    actor = by or (origin.actor() if origin is not None else _account())
    address = origin.address if origin is not None else COMMAND
    told = {name: value for name, value in detail.items() if value is not None}
    AuditEntry.objects.create(
        at=now, actor=actor[:150], action=action, target=target[:200], address=address[:64], detail=told
    )


def entries(*, actor: str = "", action: str = "", before: int | None = None, limit: int = 50) -> list[AuditEntry]:
    """Entries, newest first, from behind the number ``before``."""
    rows = AuditEntry.objects.order_by("-id")
    if actor:
        rows = rows.filter(actor=actor)
    if action:
        rows = rows.filter(action=action)
    if before is not None:
        rows = rows.filter(id__lt=before)
    return list(rows[:limit])


def _account() -> str:
    """The account of the machine under which a command runs."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return ""


def watch() -> None:
    """Note what happens to accounts, tokens and secrets, whoever does it, and what is done in Django's admin."""
    user_logged_in.connect(_logged_in, dispatch_uid="audit.in")
    user_logged_out.connect(_logged_out, dispatch_uid="audit.out")
    user_login_failed.connect(_login_failed, dispatch_uid="audit.failed")
    pre_save.connect(_user_about_to_change, sender=User, dispatch_uid="audit.user.before")
    post_save.connect(_user_saved, sender=User, dispatch_uid="audit.user")
    post_delete.connect(_deleted, sender=User, dispatch_uid="audit.user.gone")
    m2m_changed.connect(_groups_changed, sender=User.groups.through, dispatch_uid="audit.groups")
    for model in (Token, Secret):
        post_save.connect(_saved, sender=model, dispatch_uid=f"audit.{model.__name__}")
        post_delete.connect(_deleted, sender=model, dispatch_uid=f"audit.{model.__name__}.gone")
    post_save.connect(_admin_edit, sender=LogEntry, dispatch_uid="audit.admin")


def _logged_in(user: User, **sent: Any) -> None:
    note("login", user.username, timezone.now(), by=user.username)


def _logged_out(user: User | None, **sent: Any) -> None:
    if user is not None:
        note("logout", user.username, timezone.now(), by=user.username)


def _login_failed(credentials: dict[str, Any], **sent: Any) -> None:
    # What was typed as a name may be a password; the address is what helps.
    name = str(credentials.get("username", ""))
    known = User.objects.filter(username=name).exists()
    note("login_failed", name if known else "(unknown name)", timezone.now(), by="-")


def _user_about_to_change(instance: User, update_fields: Any = None, **sent: Any) -> None:
    if update_fields is not None and not set(update_fields) & set(_WATCHED):
        return
    before = User.objects.filter(pk=instance.pk).values(*_WATCHED).first() if instance.pk else None
    changed = [name for name in _WATCHED if before is not None and before[name] != getattr(instance, name)]
    instance.__dict__["_audit_changed"] = changed


def _user_saved(instance: User, created: bool, **sent: Any) -> None:
    changed = instance.__dict__.pop("_audit_changed", [])
    if created:
        note("user_made", f"user {instance.username}", timezone.now(), staff=instance.is_staff)
    elif changed:
        # Which, not to what: of a password nothing is told.
        note("user_changed", f"user {instance.username}", timezone.now(), changed=changed)


def _groups_changed(instance: Any, action: str, **sent: Any) -> None:
    if action in ("post_add", "post_remove", "post_clear") and isinstance(instance, User):
        names = sorted(instance.groups.values_list("name", flat=True))
        note("groups_changed", f"user {instance.username}", timezone.now(), groups=names)
    elif action in ("post_add", "post_remove", "post_clear"):
        note("groups_changed", f"group {instance}", timezone.now(), change=action.removeprefix("post_"))


def _saved(sender: type[Model], instance: Token | Secret, created: bool, **sent: Any) -> None:
    word = "made" if created else "changed"
    note(f"{sender.__name__.lower()}_{word}", _name_of(instance), timezone.now(), scopes=_scopes(instance))


def _deleted(sender: type[Model], instance: Token | Secret | User, **sent: Any) -> None:
    word = "revoked" if sender is Token else "removed"
    note(f"{sender.__name__.lower()}_{word}", _name_of(instance), timezone.now(), scopes=_scopes(instance))


def _name_of(instance: Token | Secret | User) -> str:
    if isinstance(instance, User):
        return f"user {instance.username}"
    owner = User.objects.filter(pk=instance.owner_id).values_list("username", flat=True).first()
    return f"{type(instance).__name__.lower()} {instance.name} of {owner or instance.owner_id}"


def _scopes(instance: Token | Secret | User) -> list[str] | None:
    return list(instance.scopes) if isinstance(instance, Token) else None


def _admin_edit(instance: LogEntry, created: bool, **sent: Any) -> None:
    if created:
        kind = instance.content_type.model if instance.content_type else "record"
        by, what = instance.user.get_username(), f"{kind} {instance.object_repr}"
        note("admin_edit", what, timezone.now(), by=by, change=instance.get_change_message())
