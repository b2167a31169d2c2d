"""The command ``grid doctor``: is everything well, and what is to be done if not."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import typer
from rich.text import Text

from grid import config
from grid.cli import common, printing
from grid.cli.exits import FAILED
from grid.client import Client
from tasks.errors import GridError, NotAllowed
from tasks.units import human_seconds
from tasks.views import DoctorView, Finding, Level

PATIENCE_SECONDS = 2.0
MOST_OFFSET_SECONDS = 5.0
WRONG_OFFSET_SECONDS = 300.0
_COLOURS = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "red"}


def doctor(as_json: common.AsJson = False) -> None:
    """Check the way to the server, and for operators the server's parts and nodes; status 1 when something fails."""
    found = (*check_config(), *check_server())
    if as_json:
        printing.say_json(found)
    else:
        rows = [(one.name, Text(str(one.level), style=_COLOURS[one.level]), one.detail, one.hint) for one in found]
        printing.table(("check", "", "found", "what to do"), rows)
    if any(one.level is Level.FAIL for one in found):
        raise typer.Exit(FAILED)


def check_config() -> Iterator[Finding]:
    """The client's own file."""
    path = config.config_path()
    try:
        known = config.load()
    except GridError as error:
        yield Finding(name="config", level=Level.FAIL, detail=str(error), hint=f"correct {path}")
        return
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        detail = f"{path} holds a token, and others may read it"
        yield Finding(name="config", level=Level.WARN, detail=detail, hint=f"chmod 600 {path}")
    elif not known.token:
        yield Finding(name="config", level=Level.FAIL, detail="no token is known", hint=config.no_token_advice(path))
    else:
        yield Finding(name="config", level=Level.PASS, detail=f"{known.server}, with a token")


def check_server() -> Iterator[Finding]:
    """The server: does it answer, who are we there, and what does it find of itself."""
    try:
        with Client() as client:
            begun = time.monotonic()
            known = client.whoami(PATIENCE_SECONDS)
            seconds = time.monotonic() - begun
            yield Finding(
                name="server",
                level=Level.PASS,
                detail=f"{client.server} answers {known['user']} in {human_seconds(round(seconds, 3))}",
            )
            yield check_version(str(known["server_version"]), own_version())
            if "admin" not in known["scopes"]:
                detail = f"{known['user']} is no operator here: broker, database, nodes were not looked at"
                yield Finding(name="server parts", level=Level.WARN, detail=detail, hint="use an operator's token")
                return
            asked = datetime.now(UTC)
            view = client.doctor()
            yield check_clock(view, asked, datetime.now(UTC))
            yield from view.findings
    except NotAllowed as error:
        yield Finding(name="server", level=Level.FAIL, detail=str(error), hint="get a new token from an operator")
    except GridError as error:
        hint = "is the address right, is the server up (its log, systemctl, grid up), is there a firewall?"
        yield Finding(name="server", level=Level.FAIL, detail=str(error), hint=hint)


def check_version(server: str, own: str) -> Finding:
    """Whether both sides are of one version; they promise to understand each other within a minor one."""
    same = server.split(".")[:2] == own.split(".")[:2]
    hint = "" if same else "install the same version on both sides"
    return Finding(
        name="version", level=Level.PASS if same else Level.WARN, detail=f"{own} here, {server} there", hint=hint
    )


def check_clock(view: DoctorView, asked: datetime, answered: datetime) -> Finding:
    """This machine's clock against the server's, which was read somewhere between the two moments."""
    before, after = (asked - view.at).total_seconds(), (answered - view.at).total_seconds()
    offset = 0.0 if before <= 0 <= after else min(before, after, key=abs)
    level = Level.PASS if abs(offset) <= MOST_OFFSET_SECONDS else Level.WARN
    if abs(offset) > WRONG_OFFSET_SECONDS:
        level = Level.FAIL
    where = "ahead of" if offset > 0 else "behind"
    detail = f"{human_seconds(round(abs(offset), 1))} {where} the server's" if offset else "as the server's"
    hint = "" if level is Level.PASS else "keep the clocks right here and there (systemd-timesyncd, chrony)"
    return Finding(name="clock", level=level, detail=detail, hint=hint)


def own_version() -> str:
    """The version of celery-grid that runs here; "0" in a source tree that was not installed."""
    try:
        return version("celery-grid")
    except PackageNotFoundError:
        return "0"
