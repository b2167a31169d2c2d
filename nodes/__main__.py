"""``python -m nodes start`` runs a node in the foreground; ``python -m nodes check`` says what this machine can do.

``python -m nodes execute`` runs one order beside any grid, for ``grid worker`` and ``grid replay``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nodes.config import (
    DEFAULT_SERVER,
    ConfigError,
    NodeConfig,
    OnStop,
    Share,
    default_directory,
    default_name,
    read_size,
    read_token,
)
from nodes.lock import AlreadyRunning
from tasks.errors import NodeFault
from tasks.order import LoneOrder

FAILED = 1
USAGE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of a node and return its exit status: 0 well, 1 something is wrong, 2 it could not be begun."""
    options = _parser().parse_args(arguments)
    try:
        return {"check": _check, "execute": _execute, "start": _start}[options.command](options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except NodeFault as fault:
        print(f"error: {fault.message}", file=sys.stderr)  # noqa: T201 - a person reads it
        return FAILED
    except (ConfigError, AlreadyRunning) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a person reads it
        return USAGE


def _start(options: argparse.Namespace) -> int:
    # Not needed for `check`, which should answer at once and also where the broker's library is not installed.
    from nodes.start import start

    name = options.name or default_name()
    config = NodeConfig(
        server=options.server or os.environ.get("GRID_SERVER") or DEFAULT_SERVER,
        name=name,
        directory=(options.dir or default_directory(name)).absolute(),
        token=read_token(options.token, os.environ),
        slots=options.slots,
        tags=_words(options.tags),
        cpus=options.cpus,
        memory_bytes=read_size(options.memory),
        shutdown_seconds=options.shutdown_seconds,
        on_stop=OnStop(options.on_stop),
        pull=not options.no_pull,
        share=Share(options.share),
        image_cache_bytes=read_size(options.image_cache),
        images=None if options.images is None else _words(options.images),
        observer=options.observer and options.observer.absolute(),
    )
    return start(config)


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _check(options: argparse.Namespace) -> int:
    from nodes.checking import check

    directory = options.dir or default_directory(default_name())
    return check(directory, options.server or os.environ.get("GRID_SERVER"), json=options.json)


def _execute(options: argparse.Namespace) -> int:
    # Celery and the server's client are not needed for it.
    from nodes.lone import Ways, default_base, execute

    given = LoneOrder.model_validate_json(options.order.read_bytes())
    ways = Ways(
        base=(options.dir or default_base()).absolute(),
        observer=options.observer and options.observer.absolute(),
        pull=not options.no_pull,
        echo=not options.quiet,
        shell=options.shell,
    )
    execute(given, options.keep, ways)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nodes", description="One node of the grid.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="run a node in the foreground")
    start.add_argument("--server", help="address of the grid's server (GRID_SERVER)")
    start.add_argument(
        "--token", help="the node's token; better by GRID_TOKEN or GRID_TOKEN_FILE, for ps shows arguments"
    )
    start.add_argument("--name", help="the node's name (default: the machine's)")
    start.add_argument("--dir", type=Path, help="where the node keeps its things")
    start.add_argument("--slots", type=int, help="attempts at one time (default: by the number of processors)")
    start.add_argument("--tags", help="tags that tasks may require, such as lab:3,fast-disk")
    start.add_argument("--images", help="images that may run here, such as registry.lab/*,python:3.* (default: all)")
    start.add_argument("--observer", type=Path, metavar="SOCKET", help="where the observer of this machine answers")
    start.add_argument("--no-pull", action="store_true", help="fetch no images: only those that are here can run")
    _offer_options(start)
    _stop_options(start)
    check = commands.add_parser("check", help="say what this machine can do as a node, and what is wrong")
    check.add_argument("--json", action="store_true", help="print JSON instead of a table")
    check.add_argument("--server", help="also try this server (GRID_SERVER)")
    check.add_argument("--dir", type=Path, help="where the node would keep its things")
    execute = commands.add_parser("execute", help="run one order beside any grid, as grid worker has it")
    execute.add_argument("order", type=Path, help="file with the order")
    execute.add_argument("keep", type=Path, help="folder for what comes of it")
    execute.add_argument("--dir", type=Path, help="where all runs keep their things")
    execute.add_argument("--observer", type=Path, metavar="SOCKET", help="where the observer of this machine answers")
    execute.add_argument("--no-pull", action="store_true", help="fetch no image")
    execute.add_argument("--quiet", action="store_true", help="do not show what the program prints")
    execute.add_argument("--shell", action="store_true", help="open a shell in the task's folder after a failure")
    return parser


def _stop_options(start: argparse.ArgumentParser) -> None:
    """What becomes of running attempts when the node is asked to end."""
    start.add_argument(
        "--on-stop",
        choices=[str(one) for one in OnStop],
        default=str(OnStop.KEEP),
        help="what becomes of running attempts after SIGTERM: wait for them, leave them to the next start (default), "
        "or hand them back to the server at once",
    )
    start.add_argument(
        "--shutdown-seconds",
        type=float,
        help="how long running attempts may go on after SIGTERM (default: drain 3600, keep 5, return 0)",
    )


def _offer_options(start: argparse.ArgumentParser) -> None:
    """How much of the machine the grid gets."""
    start.add_argument("--cpus", type=float, help="processors to offer (default: all)")
    start.add_argument("--memory", help="memory to offer, such as 16G (default: nearly all)")
    start.add_argument(
        "--share",
        choices=[str(one) for one in Share],
        default=str(Share.ALL),
        help="what of that the grid may use: all, whatever else runs here (default), or what others leave spare, for "
        "machines at which people work",
    )
    start.add_argument(
        "--image-cache",
        metavar="SIZE",
        help="how much the images that it fetched may take, such as 50G (default: until the engine's disk is low)",
    )


if __name__ == "__main__":
    sys.exit(main())
