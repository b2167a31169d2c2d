"""The grid in Python: ``grid.submit("folder").wait()``. Names are loaded at first use: ``import grid`` is quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builtins import list as _list

    from grid.client import Client, get, run, submit, submit_many
    from grid.client import list_tasks as list
    from grid.config import Config
    from grid.handle import Result, ResultFile, Task
    from tasks.errors import (
        Conflict,
        Fault,
        GridError,
        NotAllowed,
        NotFound,
        Refused,
        SpecError,
        TooLarge,
        Unavailable,
        WaitTimeout,
    )

__all__ = [
    "Client",
    "Config",
    "Conflict",
    "Fault",
    "GridError",
    "NotAllowed",
    "NotFound",
    "Refused",
    "Result",
    "ResultFile",
    "SpecError",
    "Task",
    "TooLarge",
    "Unavailable",
    "WaitTimeout",
    "get",
    "list",
    "run",
    "submit",
    "submit_many",
]

# Where the names live that are not errors; "list" has another name inside, so that the builtin stays in reach there.
_HOMES = {
    "Client": ("grid.client", "Client"),
    "Config": ("grid.config", "Config"),
    "Result": ("grid.handle", "Result"),
    "ResultFile": ("grid.handle", "ResultFile"),
    "Task": ("grid.handle", "Task"),
    "get": ("grid.client", "get"),
    "list": ("grid.client", "list_tasks"),
    "run": ("grid.client", "run"),
    "submit": ("grid.client", "submit"),
    "submit_many": ("grid.client", "submit_many"),
}


if not TYPE_CHECKING:  # or a misspelt name would be any object to a type checker

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, inner = _HOMES.get(name, ("tasks.errors", name))
        value: object = getattr(import_module(module), inner)
        globals()[name] = value
        return value


def __dir__() -> _list[str]:
    return sorted({*globals(), *__all__})
