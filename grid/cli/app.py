"""The tree of commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from grid.cli import fleet, kolejka, many, printing, restart, server, starting, tasks, worker
from grid.cli.doctor import doctor
from grid.cli.observe import observe
from grid.cli.replay import replay


class ListByDefault(TyperGroup):
    """``grid nodes [NAME] [--json]`` lists, as it always did; ``grid nodes VERB`` is another command."""

    default = "list"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Whatever is no verb belongs to the list."""
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in known else [self.default, *args])


app = typer.Typer(
    name="grid",
    help="A grid for small labs: a task folder goes in, a container runs under limits, a result comes out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Frames and colours are for people; what is read from a pipe stays plain.
    rich_markup_mode="rich" if sys.stderr.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
nodes_app = typer.Typer(cls=ListByDefault, help="List the nodes; restart those that went down.")
node_app = typer.Typer(help="Run tasks on this machine; add, remove, cordon and drain nodes.", no_args_is_help=True)
token_app = typer.Typer(help="Tokens: make one, see who has one, make one worthless.", no_args_is_help=True)
worker_app = typer.Typer(help="Run one task on this machine, without a grid.", no_args_is_help=True)
kolejka_app = typer.Typer(help="For those who come from kolejka.", no_args_is_help=True)
secret_app = typer.Typer(help="Your stored secrets, which tasks name in their description.", no_args_is_help=True)

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}

_TASKS: dict[str, Callable[..., None]] = {
    "submit": tasks.submit,
    "run": tasks.run,
    "list": tasks.list_,
    "status": tasks.status,
    "logs": tasks.logs,
    "result": tasks.result,
    "cancel": many.cancel,
    "retry": many.retry,
    "copy": many.copy,
    "rm": many.remove,
    "explain": tasks.explain,
    "replay": replay,
}
_GRID: dict[str, Callable[..., None]] = {
    "schema": server.schema,
    "doctor": doctor,
    "up": starting.up,
}
_NODE: dict[str, Callable[..., None]] = {"start": server.node_start, "check": server.node_check}
_NODES: dict[str, Callable[..., None]] = {
    "add": fleet.add,
    "remove": fleet.remove,
    "cordon": fleet.cordon,
    "drain": fleet.drain,
    "resume": fleet.resume,
}
_TOKEN: dict[str, Callable[..., None]] = {
    "list": fleet.token_list,
    "create": fleet.token_create,
    "revoke": fleet.token_revoke,
}
_SECRET: dict[str, Callable[..., None]] = {
    "set": server.secret_set,
    "list": server.secret_list,
    "remove": server.secret_remove,
}

app.command("observe", rich_help_panel="Tasks", context_settings={"allow_interspersed_args": False})(observe)
for _name, _command in _TASKS.items():
    app.command(_name, rich_help_panel="Tasks")(_command)
for _name, _command in _GRID.items():
    app.command(_name, rich_help_panel="The grid")(_command)
nodes_app.command("list")(server.nodes)
nodes_app.command("restart")(restart.restart)
for _name, _command in _NODE.items():
    node_app.command(_name, context_settings=_PASS_ON, add_help_option=False)(_command)
for _name, _command in _NODES.items():
    node_app.command(_name)(_command)
for _name, _command in _TOKEN.items():
    token_app.command(_name)(_command)
for _name, _command in _SECRET.items():
    secret_app.command(_name)(_command)
worker_app.command("execute")(worker.run_folder)
app.add_typer(worker_app, name="worker", rich_help_panel="Tasks")
app.add_typer(nodes_app, name="nodes", rich_help_panel="The grid")
app.add_typer(node_app, name="node", rich_help_panel="The grid")
app.add_typer(token_app, name="token", rich_help_panel="The grid")
kolejka_app.command("install")(kolejka.install)
app.add_typer(kolejka_app, name="kolejka", rich_help_panel="The grid")
app.add_typer(secret_app, name="secret", rich_help_panel="The grid")


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            number = version("celery-grid")
        except PackageNotFoundError:
            number = "of a source tree that is not installed"
        printing.say(f"grid {number}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options before any command."""
