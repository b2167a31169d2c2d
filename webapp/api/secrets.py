"""Secrets: values that tasks of their owner get by name and that are never shown again."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpResponse
from django.utils import timezone
from ninja import Path, Router
from pydantic import Field, TypeAdapter

from grid.core import secretbox
from grid.core.models import Secret
from grid.core.people.tokens import Scope
from tasks.errors import NotFound
from tasks.model import Record
from webapp.api.answers import answer, answer_list
from webapp.auth import Allow, Request

SecretName = Annotated[str, Path(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,199}$")]

router = Router(tags=["secrets"])


class SecretView(Record):
    """A secret as it is shown: by its name only."""

    name: str


class SecretBody(Record):
    """The value of a secret; it becomes an environment variable."""

    value: str = Field(max_length=64 * 1024, pattern=r"^[^\x00]*$")


_SECRETS = TypeAdapter(list[SecretView])


@router.get("", auth=Allow(Scope.READ), response=list[SecretView])
def names(request: Request) -> HttpResponse:
    """The names of your secrets."""
    rows = Secret.objects.filter(owner=request.auth.user).order_by("name").values_list("name", flat=True)
    return answer_list(_SECRETS, [SecretView(name=name) for name in rows])


@router.put("/{name}", auth=Allow(Scope.SUBMIT), response=SecretView)
def keep(request: Request, name: SecretName, body: SecretBody) -> HttpResponse:
    """Store a secret, or replace its value."""
    values = {"value": secretbox.seal(body.value), "changed_at": timezone.now()}
    Secret.objects.update_or_create(owner=request.auth.user, name=name, defaults=values)
    return answer(SecretView(name=name))


@router.delete("/{name}", auth=Allow(Scope.SUBMIT), response={204: None})
def forget(request: Request, name: SecretName) -> HttpResponse:
    """Remove a secret."""
    removed, _ = Secret.objects.filter(owner=request.auth.user, name=name).delete()
    if not removed:
        raise NotFound(f'you have no secret "{name}"')
    return HttpResponse(status=204)
