"""A log of 50 MB a second and a result of gigabytes: what they do to the server's memory and to the pages of others.

The node is the real one but for its container: what would come out of it is written by the runtime itself. The pages
are asked for all the time, before and meanwhile, so that the two are measured by the same clock on the same machine.
"""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from figures import Figure, at_most, rss_bytes
from load_memory import start_node
from load_queue import SPEC, Door
from load_stack import Stack, a_stack
from rich.console import Console

from grid.api import LOG_PART_BYTES

RATE, SECONDS = 50, 10
GROWTH_MB = 50
SLOWER = 2.0
BEFORE_SECONDS = 10.0
LEAST_LOOKS = 10
PAUSE_SECONDS = 0.2
WAIT_SECONDS = 900.0
BLOCK_BYTES = 2**20

T = TypeVar("T")

console = Console(stderr=True)


@dataclass
class Watch:
    """Looks at pages and at the server's memory until it is stopped; ``part`` names what goes on meanwhile."""

    stack: Stack
    cookie: str
    pages: tuple[str, ...]
    part: str = "before"
    took: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look."""
        browser = Door(self.stack, self.cookie)
        while not self.over.wait(PAUSE_SECONDS):
            part = self.part
            for page in self.pages:
                self.took.setdefault(part, []).append(browser.ask("GET", page)[1])
            self.memory[part] = max(self.memory.get(part, 0), rss_bytes(self.stack.process("web")))


def big(gigabytes: float) -> Iterator[Figure]:
    """Print, bring back and fetch; each beside what was before."""
    with tempfile.TemporaryDirectory(prefix="celery-grid-load-", dir="/var/tmp") as folder:
        limits = {"max_limits": "{}", "default_limits": '{"memory": "64M", "cpus": 1, "pids": 16, "time": "15min"}'}
        with a_stack(Path(folder), **limits) as stack:
            stack.start_dispatcher()
            start_node(stack)
            yield from measured(stack, int(gigabytes * 1024))


def measured(stack: Stack, megabytes: int) -> Iterator[Figure]:
    """All figures."""
    door = Door(stack)
    task = submit(door, megabytes)
    watch = Watch(stack, stack.inside("session")["cookie"], ("/", f"/tasks/{task}/"))
    watcher = threading.Thread(target=watch.run, daemon=True)
    # Warm, and then as it is when nothing goes on: the task writes its file, on the node alone.
    submit(door, 1, seconds=1)
    watcher.start()
    time.sleep(BEFORE_SECONDS)
    while len(watch.took.get("before", ())) < LEAST_LOOKS:
        time.sleep(PAUSE_SECONDS)
    log_rate = during(watch, "log", lambda: log_read(stack, task))
    during(watch, "upload", lambda: ended(door, task))
    whole = during(watch, "download", lambda: fetched(stack, task, ""))
    last = during(watch, "range", lambda: fetched(stack, task, f"bytes={megabytes * 2**19}-"))
    watch.over.set()
    watcher.join()
    if (whole[0], last[0]) != (megabytes * 2**20, megabytes * 2**19):
        raise SystemExit(f"{whole[0]} and {last[0]} bytes came of {megabytes} MB")
    log = f"{RATE} MB/s for {SECONDS} s, read as it came at {log_rate:.0f} MB/s"
    yield from figures(watch, f"{log}; a file of {megabytes:,} MB, fetched at {whole[1]:.0f} MB/s")


def figures(watch: Watch, detail: str) -> Iterator[Figure]:
    """Memory and pages of each part, beside those before."""
    before, usual = watch.memory["before"], statistics.median(watch.took["before"])
    for part in ("log", "upload", "download", "range"):
        if part not in watch.took:
            continue
        grown = (watch.memory[part] - before) / 2**20
        told = f"{before / 2**20:.0f} MB before, {watch.memory[part] / 2**20:.0f} MB at most; {detail}"
        yield at_most(f"{part}: growth of the web server", grown, GROWTH_MB, "MB", told)
        now = statistics.median(watch.took[part])
        told = f"median {usual * 1000:.0f} ms before, {now * 1000:.0f} ms, of {len(watch.took[part])} looks"
        yield at_most(f"{part}: pages, meanwhile / before", now / usual, SLOWER, "", told)


def during(watch: Watch, part: str, act: Callable[[], T]) -> T:
    """What ``act`` gives; all that is seen meanwhile belongs to ``part``."""
    watch.part = part
    began = time.monotonic()
    found = act()
    console.print(f"{part}: {time.monotonic() - began:.0f} s", highlight=False)
    watch.part = "between"
    return found


def submit(door: Door, megabytes: int, seconds: int = SECONDS) -> str:
    """A task that brings a file back and prints."""
    limits = {"memory": "64M", "cpus": 1, "time": "15min", "output": "4G", "storage": f"{megabytes + 1024}M"}
    args = ["print", str(RATE), str(seconds), str(megabytes)]
    spec = {**SPEC, "args": args, "limits": limits, "collect": [{"glob": "large.bin"}]}
    answer = door.ask("POST", "/api/v1/tasks", {"spec": spec}, **{"Idempotency-Key": uuid.uuid4().hex})[0]
    return str(json.loads(answer)["id"])


def log_read(stack: Stack, task: str) -> float:
    """Follow the log to its end as `grid logs -f` does; MB a second from its first byte on."""
    door, offset, began = Door(stack), 0, 0.0
    deadline = time.monotonic() + WAIT_SECONDS
    while offset < RATE * SECONDS * 2**20 * 0.99:
        if time.monotonic() > deadline:
            raise SystemExit(f"only {offset} bytes of the log came")
        part, _ = door.ask("GET", f"/api/v1/tasks/{task}/logs/stdout?offset={offset}&limit={LOG_PART_BYTES}&wait=10")
        began = began or (time.monotonic() if part else 0.0)
        offset += len(part)
    return offset / 2**20 / (time.monotonic() - began)


def ended(door: Door, task: str) -> None:
    """Wait for the task's end."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        view = json.loads(door.ask("GET", f"/api/v1/tasks/{task}/wait?timeout=10")[0])
        if view["verdict"] == "succeeded":
            return
        if view["verdict"] or time.monotonic() > deadline:
            raise SystemExit(f"the task ended as {view['verdict'] or view['state']}: {view['reason']}")


def fetched(stack: Stack, task: str, asked: str) -> tuple[int, float]:
    """How many bytes of the large file came, and MB a second."""
    connection = http.client.HTTPConnection(stack.server.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"Bearer {stack.token}"} | ({"Range": asked} if asked else {})
    began, size = time.monotonic(), 0
    connection.request("GET", f"/api/v1/tasks/{task}/files/large.bin", headers=headers)
    answer = connection.getresponse()
    while block := answer.read(BLOCK_BYTES):
        size += len(block)
    connection.close()
    return size, size / 2**20 / (time.monotonic() - began)
