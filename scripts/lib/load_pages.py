"""Every page and every list call over a record of a million tasks: how long the server needs, and how many queries."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figures import Figure, at_most
from load_stack import a_database, a_stack
from rich.console import Console

SLOW_MILLISECONDS = 100
MOST_QUERIES = 20

console = Console(stderr=True)


def pages(count: int, postgres: bool) -> Iterator[Figure]:
    """The slowest of all, and the one with the most queries."""
    where = "PostgreSQL" if postgres else "SQLite"
    with (
        tempfile.TemporaryDirectory(prefix="celery-grid-load-") as folder,
        a_database(postgres) as url,
        a_stack(Path(folder), url, lease_seconds="3600") as stack,
    ):
        seeded = stack.inside(str(count), program="load_record.py")
        console.print(f"{where}: {count:,} tasks on the record in {seeded['seconds']:.0f} s")
        found = stack.inside(program="load_looks.py")
    looks = sorted(found["looks"], key=lambda look: -float(look["milliseconds"]))
    for look in looks[:10]:
        console.print(f"  {look['milliseconds']:7.1f} ms  {_told(look)}", highlight=False)
    slow = sum(look["milliseconds"] > SLOW_MILLISECONDS for look in looks)
    whose = ", PostgreSQL's included" if postgres else ""
    told = f"{len(looks)} looks, {slow} over the bar; time of the processor{whose}"
    detail = f"{found['tasks']:,} tasks, {told}; {_told(looks[0])}"
    yield at_most(f"{where}: the slowest page or list", looks[0]["milliseconds"], SLOW_MILLISECONDS, "ms", detail)
    most = max(looks, key=lambda look: int(look["queries"]))
    yield at_most(f"{where}: queries of one request", most["queries"], MOST_QUERIES, "", _told(most))


def _told(look: dict[str, Any]) -> str:
    return f"{look['path']} for {'an' if look['who'] == 'operator' else 'a'} {look['who']}"
