"""A long queue: what a placement costs, how fast tasks come in, and how long lists and pages take."""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from figures import Figure, at_least, at_most, cpu_seconds, rss_bytes
from load_stack import Stack, a_database, a_stack
from rich.console import Console

NODES = 100
ROUNDS = 3
ENDED = 20_000
SUBMITS = 1000
BULK = 1000
BULKS = 5
SUBMIT_AT = 100_000
LOOKS = 5
SPEC = {
    "image": "busybox",
    "args": ["uname", "-a"],
    "limits": {"memory": "64M", "cpus": 1, "time": "30s"},
    "files": {"input.txt": {"content": "7\n"}},
}
# Every filter of the list, with what is common, what is rare, and what is not there at all.
LISTS = (
    "",
    "limit=500",
    "state=queued",
    "state=failed",
    "state=running",
    "state=running,failed",
    "verdict=exit_code",
    "verdict=node_lost",
    "owner=owner3",
    "owner=nobody",
    "node=node7",
    "node=nowhere",
    "label=course%3Dc3",
    "label=course%3Dnone",
    "text=exercise",
    "text=pattern",
    "text=nothing-like-this",
    "state=queued&owner=nobody",
    "state=failed&owner=owner3&text=exercise%209",
)

console = Console(stderr=True)


class Door:
    """One connection to the server; ``cookie`` makes it that of a browser."""

    def __init__(self, stack: Stack, cookie: str = "") -> None:
        self._connection = http.client.HTTPConnection(stack.server.removeprefix("http://"), timeout=300)
        self._headers = {"Cookie": cookie} if cookie else {"Authorization": f"Bearer {stack.token}"}

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[bytes, float]:
        """The answer's body, and how many seconds it took."""
        content = json.dumps(body).encode() if body is not None else None
        kind = {"Content-Type": "application/json"} if content else {}
        began = time.perf_counter()
        try:
            self._connection.request(method, path, body=content, headers={**self._headers, **kind, **headers})
            answer = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError):
            self._connection.close()
            # The server has closed what was idle meanwhile; the library connects anew at the next request.
            return self.ask(method, path, body, **headers)
        text = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:300]!r}")
        return text, time.perf_counter() - began


def queue(folder: Path, sizes: Sequence[int], database_url: str = "") -> Iterator[Figure]:
    """All figures of the queue; ``sizes`` are the lengths of it, growing."""
    where = "PostgreSQL" if database_url else "SQLite"
    with a_stack(folder, database_url, lease_seconds="3600") as stack:
        stack.inside("fleet", str(NODES))
        costs: dict[int, dict[str, Any]] = {}
        for size in sizes:
            seeded = stack.inside("seed", str(size), str(ENDED))
            console.print(f"{where}: {size:,} queued ({seeded['seeded']:,} rows in {seeded['seconds']:.0f} s)")
            costs[size] = stack.inside("dispatch", str(ROUNDS))
            if size == min(max(sizes), SUBMIT_AT):
                yield from submits(stack, size, where)
        yield from placements(costs, where)
        yield from lists(stack, max(sizes), where)
        rss = rss_bytes(stack.process("web")) / 2**20
        yield at_most(f"{where}: RSS of the web server", rss, 300, "MB", f"after all this, {max(sizes):,} queued")


def placements(costs: dict[int, dict[str, Any]], where: str) -> Iterator[Figure]:
    """What a placement costs with the shortest and with the longest queue, in lookups at the time of each."""
    least, most = min(costs), max(costs)
    each = {size: one["cpu"] / one["placed"] / one["yard"] for size, one in costs.items()}
    detail = ", ".join(f"{size:,}: {one['cpu'] / one['placed'] * 1000:.3f} ms" for size, one in costs.items())
    name = f"{where}: CPU per placement, {most:,} / {least:,} queued"
    yield at_most(name, each[most] / each[least], 1.2, "", f"{detail} (all {NODES * 10:,} slots filled at once)")
    single = {size: one["single_cpu"] / one["yard_single"] for size, one in costs.items()}
    detail = ", ".join(f"{size:,}: {one['single_cpu'] * 1000:.1f} ms" for size, one in costs.items())
    yield at_most(f"{where}: the same, slot by slot", single[most] / single[least], 1.2, "", detail)
    longest = costs[most]
    rate = longest["placed"] / longest["wall"]
    yield at_least(f"{where}: placements/s, {most:,} queued", rate, 1000, "/s", f"{longest['placed']} placed")
    rss = longest["rss"] / 2**20
    yield at_most(f"{where}: RSS of the dispatcher", rss, 200, "MB", f"its peak, {most:,} queued")


def submits(stack: Stack, size: int, where: str) -> Iterator[Figure]:
    """Submits one by one over one connection, and in bulk."""
    door = Door(stack)
    web = stack.process("web")

    def one() -> float:
        return door.ask("POST", "/api/v1/tasks", {"spec": SPEC}, **{"Idempotency-Key": uuid.uuid4().hex})[1]

    for _ in range(50):
        one()
    before, began = cpu_seconds(web), time.perf_counter()
    seconds = sorted(one() for _ in range(SUBMITS))
    rate = SUBMITS / (time.perf_counter() - began)
    cost = (cpu_seconds(web) - before) / SUBMITS * 1000
    p50, p99 = statistics.median(seconds) * 1000, seconds[int(SUBMITS * 0.99)] * 1000
    detail = f"{size:,} queued; {cost:.1f} ms of the server's CPU each, median {p50:.1f} ms"
    yield at_least(f"{where}: submits one by one", rate, 300, "/s", detail)
    yield at_most(f"{where}: submit p99", p99, 50, "ms", f"{size:,} queued")
    tasks = [{"spec": SPEC | {"args": ["echo", str(number)]}} for number in range(BULK)]
    before = cpu_seconds(web)
    took = [
        door.ask("POST", "/api/v1/tasks/bulk", {"tasks": tasks}, **{"Idempotency-Key": uuid.uuid4().hex})[1]
        for _ in range(BULKS)
    ]
    cost = (cpu_seconds(web) - before) / (BULK * BULKS) * 1e6
    detail = f"{BULKS} times {BULK} tasks; {cost:.0f} us of the server's CPU for each task"
    yield at_least(f"{where}: submits in bulk", BULK / statistics.median(took), 5000, "/s", detail)


def lists(stack: Stack, size: int, where: str) -> Iterator[Figure]:
    """The slowest of all list calls, and of all pages."""
    door = Door(stack)
    first = json.loads(door.ask("GET", "/api/v1/tasks?limit=500")[0])
    deep = json.loads(door.ask("GET", "/api/v1/tasks?state=queued&limit=1")[0])["items"][0]["id"]
    calls = {f"/api/v1/tasks?{words}" for words in LISTS} | {f"/api/v1/tasks?after={first['next']}"}
    calls |= {f"/api/v1/tasks/{deep}{more}" for more in ("", "/events", "/attempts", "/explain")}
    calls |= {"/api/v1/nodes", f"/api/v1/tasks?text={deep[:12]}", f"/api/v1/tasks?text={deep}"}
    yield slowest(f"{where}: the slowest list call", lambda path: door.ask("GET", path)[1], calls, size)
    browser = Door(stack, stack.inside("session")["cookie"])
    pages = {f"/?{words}" for words in LISTS} | {"/nodes/", f"/tasks/{deep}/"}
    yield slowest(f"{where}: the slowest page", lambda path: browser.ask("GET", path)[1], pages, size)
    yield slowest(f"{where}: /metrics", lambda path: door.ask("GET", path)[1], {"/metrics"}, size)


def slowest(name: str, ask: Callable[[str], float], paths: set[str], size: int) -> Figure:
    """The path that takes longest, by the median of a few looks; all are told to the console."""
    took = {}
    for path in sorted(paths):
        ask(path)
        took[path] = statistics.median(ask(path) for _ in range(LOOKS)) * 1000
    for path, milliseconds in sorted(took.items(), key=lambda item: -item[1])[:8]:
        console.print(f"  {milliseconds:7.1f} ms  {path}", highlight=False)
    worst = max(took, key=lambda path: took[path])
    return at_most(name, took[worst], 100, "ms", f"{size:,} tasks; {worst}, of {len(took)}")


def both(sizes: Sequence[int], postgres: bool) -> Iterator[Figure]:
    """The queue on SQLite, or on a PostgreSQL of our own."""
    with tempfile.TemporaryDirectory(prefix="celery-grid-load-") as folder, a_database(postgres) as url:
        yield from queue(Path(folder), sizes, url)
