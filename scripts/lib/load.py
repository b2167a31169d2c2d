"""The visible part of scripts/load: the grid under load, each figure with the bar it is held against."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from figures import Figure, show, write_json
from load_stack import clean_environment

PARTS = ("queue", "pages", "big", "nodes", "memory", "idle")


def main() -> int:
    """Measure and print; always 0, for a slow machine is no fault."""
    wanted = arguments()
    # Whoever ends this ends what it has started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    clean_environment()
    figures: list[Figure] = []
    for part in wanted.only:
        figures += list(measured(part, wanted))
        if wanted.json:
            write_json(wanted.json, figures)
    show(figures)
    return 0


def measured(part: str, wanted: argparse.Namespace) -> Iterable[Figure]:
    """The figures of one part; what only it needs is loaded only for it."""
    if part == "queue":
        from load_queue import both

        return both(wanted.sizes, wanted.postgres)
    if part == "pages":
        from load_pages import pages

        return pages(wanted.record, wanted.postgres)
    if part == "big":
        from load_big import big

        return big(wanted.gigabytes)
    if part == "nodes":
        from load_nodes import heartbeats

        return heartbeats(wanted.nodes, wanted.seconds)
    if part == "memory":
        from load_memory import memory

        return memory(wanted.tasks)
    from load_idle import idle

    return idle(wanted.seconds)


def arguments() -> argparse.Namespace:
    """What is to be measured."""
    parser = argparse.ArgumentParser(prog="scripts/load", description=__doc__)
    whole = numbers("10000,100000,1000000")
    parser.add_argument("--only", type=words, default=PARTS, help=f"parts to measure, of {','.join(PARTS)}")
    parser.add_argument(
        "--postgres", action="store_true", help="the queue and the pages on PostgreSQL instead of SQLite"
    )
    parser.add_argument("--sizes", type=numbers, default=whole, help="lengths of the queue, growing")
    parser.add_argument("--record", type=int, default=1_000_000, help="tasks on the record when pages are measured")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the large result")
    parser.add_argument("--nodes", type=int, default=1000, help="simulated nodes")
    parser.add_argument("--tasks", type=numbers, default=numbers("1000,10000"), help="tasks of the memory's two looks")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="how long idle processes and heartbeats are watched"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


def numbers(text: str) -> tuple[int, ...]:
    """Numbers joined by commas, sorted."""
    return tuple(sorted(int(word) for word in text.split(",")))


def words(text: str) -> tuple[str, ...]:
    """Names of parts joined by commas."""
    found = tuple(text.split(","))
    if unknown := set(found) - set(PARTS):
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
