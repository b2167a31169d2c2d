"""Who am I here, and how does a task look."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from ninja import Router

from grid.core.people.tokens import Scope
from tasks.model import Record
from tasks.spec import json_schema
from webapp.auth import Allow, Request

router = Router(tags=["about"])


class WhoAmI(Record):
    """The caller as the server knows it."""

    user: str
    scopes: tuple[str, ...]
    server_version: str


@router.get("/whoami", auth=Allow(Scope.READ), response=WhoAmI)
def whoami(request: Request) -> WhoAmI:
    """Your name, and what your token opens."""
    caller = request.auth
    return WhoAmI(user=caller.user.username, scopes=tuple(sorted(caller.scopes)), server_version=server_version())


@router.get("/schema", auth=None, response=dict[str, object])
def schema(request: Request) -> dict[str, object]:
    """The JSON Schema of ``task.json``, for editors; open to all, so that a file can name it as its ``$schema``."""
    return _schema()


@cache
def _schema() -> dict[str, object]:
    return json_schema()


@cache
def server_version() -> str:
    """The version of celery-grid that runs here; "0" when it runs from a source tree that was not installed."""
    try:
        return version("celery-grid")
    except PackageNotFoundError:
        return "0"
