"""A grid as people meet it after a week: tasks that really ran and ended in different ways, people, nodes, policies."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from grid import Client, Task
from tasks.views import BulkBody, BulkTask
from tests.support.grids import RunningGrid
from tests.support.story import PATIENCE_SECONDS, has_printed

PASSWORD = "a long word for tests"
ADA, BOB, NEW, STAFF = "ada", "bob", "newcomer", "admin"
WAITING = 52
"""How many of bob's tasks wait: more than a page of the list holds."""

REPORT = "<!doctype html><title>r</title><script>alert('a report that runs')</script><h1>Report</h1>"
# What runs for as long as the suite does, and prints all the while.
TRAINING = """
echo "epoch 0: loss 2.31"; i=0
while :; do i=$((i+1)); echo "epoch $i: loss 0.$((900 / (i + 9)))"; sleep 0.5; done
"""


@dataclass(frozen=True)
class Person:
    """Somebody with an account; ``cookies`` are those of a session that is logged in, ``client`` has their token."""

    name: str
    cookies: Mapping[str, str]
    client: Client


@dataclass(frozen=True)
class World:
    """The grid, its people by name, and the ids of the tasks that the tests look at."""

    grid: RunningGrid
    people: Mapping[str, Person]
    tasks: Mapping[str, str]
    node: str

    @property
    def server(self) -> str:
        """The address of the web server."""
        return self.grid.server

    def task(self, name: str) -> Task:
        """One of the tasks, as the staff sees it."""
        return self.people[STAFF].client.get(self.tasks[name])


def a_chart(width: int = 240, height: int = 120) -> bytes:
    """A picture of eight bars, as a PNG."""
    bars = (30, 52, 47, 71, 80, 64, 93, 104)
    lines = bytearray()
    for row in range(height):
        lines.append(0)  # this line is not filtered
        for column in range(width):
            bar, within = divmod(column, width // len(bars))
            lines += b"\x3f\x74\xe0" if within > 5 and height - row < bars[bar] else b"\xf4\xf6\xf9"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(lines))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def log_in(server: str, name: str, password: str) -> httpx.Client:
    """A session of ``name``, got through the form as browsers do."""
    web = httpx.Client(base_url=server, timeout=30, follow_redirects=True)
    form = web.get("/login/").text
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert token is not None
    answer = web.post("/login/", data={"csrfmiddlewaretoken": token[1], "username": name, "password": password})
    assert "sessionid" in web.cookies, answer.status_code
    return web


def the_world(grid: RunningGrid) -> World:
    """Fill a new grid: what ends has ended, what runs runs, and what waits waits for good reason."""
    people = _people(grid)
    node = str(grid.facts["node"])
    ada, bob = people[ADA].client, people[BOB].client
    tasks = {**_running(grid, ada), **_ending(grid, ada)}
    folder = grid.task_folder("true", resources={"seat": 1}, labels={"course": "algorithms", "round": "final"})
    tasks["of bob"] = _in_bulk(bob, folder, [f"solution {number:02}" for number in range(1, WAITING + 1)])[0]
    tasks["cancelled"] = ada.submit(grid.task_folder("true", resources={"seat": 1}), name="old draft")
    tasks["cancelled"].cancel(reason="the input was the wrong one")
    for name in ("succeeded", "failed", "hog", "hog too", "slow"):
        tasks[name].wait(PATIENCE_SECONDS)
    has_printed(tasks["running"], "epoch 3")
    return World(grid, people, {name: task.id for name, task in tasks.items()}, node)


def _in_bulk(client: Client, folder: Path, names: Sequence[str]) -> list[Task]:
    """The task in the folder so many times, under these names."""
    spec = json.loads((folder / "task.json").read_text())
    body = BulkBody(tasks=tuple(BulkTask(spec=spec, name=name) for name in names))
    return [Task(client, view) for view in client.create_tasks(body, uuid4().hex)]


def _people(grid: RunningGrid) -> dict[str, Person]:
    """Two users who work, one who is new, and the operator that ``grid up`` made; quotas and a second node."""
    password = (grid.directory / "admin-password").read_text().strip()
    staff = log_in(grid.server, STAFF, password)
    for name in (ADA, BOB, NEW):
        _ask(staff, "POST", "users", {"name": name, "password": PASSWORD})
    _ask(staff, "PATCH", f"users/{BOB}", {"rules": {"quota": {"running": 2, "queued": 500, "cpu_hours": 40}}})
    _ask(staff, "PATCH", "groups/Clients", {"rules": {"limits": {"memory": "4G"}}})
    _ask(staff, "POST", "nodes", {"name": "lab2"})
    sessions = {name: log_in(grid.server, name, PASSWORD) for name in (ADA, BOB, NEW)} | {STAFF: staff}
    return {name: _person(grid, name, web) for name, web in sessions.items()}


def _person(grid: RunningGrid, name: str, web: httpx.Client) -> Person:
    scopes = ["read", "submit", "admin"] if name == STAFF else ["read", "submit"]
    token = _ask(web, "POST", "tokens", {"name": "laptop", "scopes": scopes})["token"]
    cookies = {cookie.name: cookie.value or "" for cookie in web.cookies.jar}
    web.close()
    return Person(name, cookies, Client(grid.server, token))


def _ask(web: httpx.Client, method: str, path: str, body: Mapping[str, object]) -> Any:
    headers = {"X-CSRFToken": web.cookies["csrftoken"], "Origin": str(web.base_url).rstrip("/")}
    answer = web.request(method, f"/api/v1/{path}", json=body, headers=headers)
    assert answer.is_success, f"{path}: {answer.text}"
    return answer.json()


def _running(grid: RunningGrid, ada: Client) -> dict[str, Task]:
    """What runs as long as the tests do, and holds the one seat that others wait for."""
    long = {"time": "1h", "output": "4M"}
    folder = grid.task_folder("sh", "-c", TRAINING, resources={"seat": 1}, limits=long, labels={"course": "vision"})
    running = ada.submit(folder, name="training run 7")
    has_printed(running, "epoch 1")
    waits = ada.submit(
        grid.task_folder("true", resources={"seat": 1}, labels={"course": "vision"}), name="training run 8"
    )
    return {"running": running, "waiting": waits}


def _ending(grid: RunningGrid, ada: Client) -> dict[str, Task]:
    """One task for each of the common ends."""
    makes = (
        "echo 'checking 40 answers'; for i in $(seq 1 40); do echo \"answer $i: right\"; done; "
        "echo '1 warning: slow' >&2; cp in/* .; echo '40 of 40' > score.txt; sleep 2"
    )
    given: dict[str, str | bytes] = {"in/plot.png": a_chart(), "in/report.html": REPORT}
    graded = grid.task_folder(
        *("sh", "-c", makes),
        files=given,
        collect=[{"glob": "score.txt"}, {"glob": "plot.png"}, {"glob": "report.html"}],
        labels={"course": "algorithms", "student": "lovelace"},
    )
    little = {"memory": "32M", "swap": 0, "time": "20s"}
    hog = grid.task_folder("sh", "-c", "echo loading; tail /dev/zero", limits=little, labels={"course": "vision"})
    wrong = grid.task_folder("sh", "-c", "echo 'expected 42, got 41' >&2; exit 3", labels={"course": "algorithms"})
    slow = grid.task_folder("sleep", "60", limits={"time": "1s"}, labels={"course": "algorithms"})
    return {
        "succeeded": ada.submit(graded, name="lab 3: sorting"),
        "failed": ada.submit(wrong, name="lab 3: hashing"),
        "hog": ada.submit(hog, name="load everything"),
        "hog too": ada.submit(hog, name="load everything, again"),
        "slow": ada.submit(slow, name="lab 3: travelling salesman"),
    }
