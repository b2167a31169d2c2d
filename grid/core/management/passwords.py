"""Where commands have passwords from; never from arguments, which every user of the machine can read."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser

from grid.core.people import members


def add_password_options(parser: CommandParser) -> None:
    """The ways to give one."""
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--generate", action="store_true", help="make a password and print it once")
    ways.add_argument("--stdin", action="store_true", help="read it from standard input (one line)")


def password_from(options: Mapping[str, Any]) -> str:
    """The password by the way that was chosen; asked for twice otherwise. Raises CommandError."""
    if options["generate"]:
        return members.new_password()
    if options["stdin"]:
        return sys.stdin.readline().rstrip("\n")
    if not sys.stdin.isatty():
        raise CommandError("there is no terminal to ask at; use --generate or --stdin")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise CommandError("these are two different passwords")
    return password
