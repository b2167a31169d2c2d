"""``python -m observer serve`` answers at a socket until it is told to end."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from observer.listening import AlreadyRunning, Options, run
from observer.protocol import DEFAULT_SOCKET, KOLEJKA_SOCKET
from observer.sessions import SESSIONS_EACH

FAILED = 1
USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 ended as told, 1 not possible here, 2 another one is there."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING, format="%(message)s")
    sockets = tuple(options.socket or [DEFAULT_SOCKET]) + ((KOLEJKA_SOCKET,) if options.kolejka_socket else ())
    try:
        run(Options(sockets, options.sessions, options.kolejka or options.kolejka_socket))
    except AlreadyRunning as error:
        return _complain(str(error), USAGE)
    except OSError as error:
        return _complain(f"{error}; the observer has to be root of the machine", FAILED)
    return 0


def _complain(text: str, status: int) -> int:
    print(f"error: {text}", file=sys.stderr)  # noqa: T201 - a person reads it
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m observer", description="Limits and counts within containers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="answer at a socket, in the foreground")
    serve.add_argument(
        "--socket", type=Path, action="append", help=f"where to answer; may be repeated (default: {DEFAULT_SOCKET})"
    )
    serve.add_argument(
        "--kolejka-socket", action="store_true", help=f"answer at {KOLEJKA_SOCKET} too; implies --kolejka"
    )
    serve.add_argument(
        "--kolejka", action="store_true", help="let statistics be read without the secret, within the container"
    )
    serve.add_argument(
        "--sessions", type=int, default=SESSIONS_EACH, help=f"sessions of one container (default: {SESSIONS_EACH})"
    )
    serve.add_argument("--verbose", action="store_true", help="say what is refused, and why")
    return parser


if __name__ == "__main__":
    sys.exit(main())
