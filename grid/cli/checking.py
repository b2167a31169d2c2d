"""``grid submit --dry-run``: what a submit would say, and what similar tasks really used."""

from __future__ import annotations

import typer

from grid.cli import printing
from grid.client import Client, SubmitOptions
from tasks.errors import Fault, SpecError


def check_only(folder: str, options: SubmitOptions, *, alone: bool, as_json: bool) -> None:
    """Say what would become of a folder. Raises SpecError with everything that would refuse it."""
    if not alone:
        raise typer.BadParameter("--dry-run looks at one folder and makes no task; leave --each and --wait out")
    with Client() as client:
        found = client.check(folder, **options)
    if found.problems and not as_json:
        raise SpecError([Fault(one.path, one.message, one.hint) for one in found.problems])
    if as_json:
        printing.say_json(found)
        return
    missing = len(found.missing)
    files = "no file has to be sent" if not missing else f"{missing} file{'s' if missing > 1 else ''} would be sent"
    printing.note(f"it would be taken; {files}")
    for name, words in found.lowered.items():
        printing.note(f"{name}: {words}")
    if found.similar is not None:
        rows = [(one.limit, one.words, one.suggested) for one in found.similar.limits]
        printing.table(("limit", "similar tasks", "enough"), rows)
