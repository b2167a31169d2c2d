"""The operator's commands on nodes: add, remove, cordon, drain, resume; and on tokens."""

from __future__ import annotations

import shlex
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.text import Text

from grid.cli import common, printing
from grid.client import Client
from tasks.accounts import TokenBody
from tasks.errors import Fault, SpecError
from tasks.states import NodeMode
from tasks.units import parse_duration
from tasks.views import NodeStatus

POLL_SECONDS = 1.0

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a node.", autocompletion=common.complete_nodes)]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the new node: letters, digits, . _ -")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is shown wherever the node is.")]


def state_text(node: NodeStatus) -> Text:
    """What a node is doing, in the colour of how good that is."""
    if not node.online:
        mode = "" if node.mode is NodeMode.OPEN else f" ({node.mode})"
        return Text(f"offline{mode}", style="red")
    if node.mode is not NodeMode.OPEN:
        word = "drained" if node.drained else str(node.mode)
        return Text(f"{word}: {node.not_ready_reason}" if node.not_ready_reason else word, style="yellow")
    if not node.ready:
        return Text(f"not ready: {node.not_ready_reason}", style="yellow")
    return Text("ready", style="green")


def add(
    name: NewName,
    renew: Annotated[bool, typer.Option("--renew", help="New token for a node that is there; old ones end.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Make a node, and print the one command that starts it on its machine. Its token is shown this once."""
    with Client() as client:
        made = client.add_node(name, renew=renew)
        words = ("grid", "node", "start", "--server", client.server, "--token", made.token, "--name", made.name)
    command = shlex.join(words)
    if as_json:
        printing.say_json({"name": made.name, "token": made.token, "command": command})
        return
    printing.note("Run this on the node, as root; the token is not shown again:")
    printing.say(command)


def remove(name: Name) -> None:
    """Take an empty node out of the grid, together with its tokens; the records of what it ran stay."""
    with Client() as client:
        client.remove_node(name)


def cordon(name: Name, reason: Reason = "") -> None:
    """Give a node nothing new. What runs there goes on."""
    with Client() as client:
        _show(client.cordon(name, reason))


def drain(
    name: Name,
    reason: Reason = "",
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="TIME", help="What still runs after this time (10min) is tried elsewhere."),
    ] = None,
    at_once: Annotated[bool, typer.Option("--now", help="End what runs there now, and try it elsewhere.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Come back when the node is empty.")] = False,
) -> None:
    """Empty a node: nothing new, and what runs there may finish. What is ended is tried elsewhere at no charge."""
    if at_once and deadline is not None:
        raise typer.BadParameter("it is the deadline 0 already", param_hint="--now")
    with Client() as client:
        node = client.drain(name, reason, 0.0 if at_once else _seconds(deadline))
        while wait and not node.drained and node.mode is NodeMode.DRAINING:
            time.sleep(POLL_SECONDS)
            node = client.node(name)
        _show(node)


def resume(name: Name, reason: Reason = "") -> None:
    """Let a node take work again."""
    with Client() as client:
        _show(client.resume(name, reason))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--deadline") from error


def _show(node: NodeStatus) -> None:
    printing.table((), [(node.name, state_text(node), f"{node.running} running")])


def token_list(as_json: common.AsJson = False) -> None:
    """List your tokens, or everybody's for operators: number, name, owner, what it opens, its last use."""
    with Client() as client:
        found = client.tokens()
    if as_json:
        printing.say_json(found)
        return
    now = datetime.now(UTC)
    rows = [
        (
            str(one.id),
            one.name,
            one.owner,
            f"node {one.node}" if one.node else " ".join(one.scopes),
            printing.since(one.last_used_at, now) or "never",
            f"{one.expires_at:%Y-%m-%d %H:%M} UTC" if one.expires_at else "never",
        )
        for one in found
    ]
    printing.table(("id", "name", "owner", "opens", "used", "expires"), rows)


def token_create(
    name: Annotated[str, typer.Argument(help="What it is for; names need not differ.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, submit or admin; may be repeated. Both of the first by default.")
    ] = None,
    days: Annotated[float | None, typer.Option(help="Days until it expires; as long as your own by default.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Make a token of yours and print it, this once. It opens no more than the one that you use now."""
    wanted = {"name": name, "days": days} | ({"scopes": scope} if scope else {})
    try:
        body = TokenBody.model_validate(wanted)
    except ValidationError as error:
        raise SpecError([Fault(str(one["loc"][0]), one["msg"]) for one in error.errors()]) from None
    with Client() as client:
        made = client.create_token(body)
    if as_json:
        printing.say_json(made)
        return
    printing.say(made.token)


def token_revoke(
    number: Annotated[int, typer.Argument(metavar="ID", help="Number of a token, from grid token list.")],
) -> None:
    """Make a token worthless. A node whose token is revoked ends what it runs when its lease is over."""
    with Client() as client:
        client.revoke_token(number)
