"""One client of a soak, a process of its own: submits tasks of all kinds for as long as it lives, and writes a journal.

What it is about to ask for is in the journal before it asks, and what it was told is there before it goes on, so that
somebody else can finish the business of a client that was killed: with the same idempotency key.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soak_plan

from grid import Client, GridError
from tasks.errors import Unavailable
from tasks.views import SubmitBody

# More than this many queued tasks only make the end of the soak longer.
MOST_QUEUED = 80
PAUSE_SECONDS = 0.25
AGAIN_SHARE = 0.08
CANCEL_SHARE = 0.06


@dataclass
class Submitted:
    """One submit as the journal has it; ``ids`` are all that clients were told, ``seconds`` how long they waited."""

    key: str
    kind: str
    body: dict[str, Any]
    ids: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    cancelled: bool = False


def read_journals(folder: Path) -> dict[str, Submitted]:
    """What all clients have written so far, by idempotency key; the last line of a killed one may be cut."""
    found: dict[str, Submitted] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                _note(found, json.loads(line))
    return found


def _note(found: dict[str, Submitted], said: dict[str, Any]) -> None:
    key = said["key"]
    if "body" in said:
        found[key] = Submitted(key, said["kind"], said["body"])
    if "id" in said:
        found[key].ids.add(said["id"])
        found[key].seconds.append(said["seconds"])
    if "cancel" in said:
        found[key].cancelled = True


def submit(client: Client, key: str, body: dict[str, Any]) -> str:
    """Submit until the server answers, as often as that takes, and return the task's id."""
    while True:
        try:
            return client.create_task(SubmitBody.model_validate(body), key).id
        except Unavailable:
            time.sleep(PAUSE_SECONDS)


class Submitter:
    """Submits one task after the other, as the chance of this client has it."""

    def __init__(self, client: Client, journal: Path, chance: random.Random) -> None:
        self._client = client
        self._chance = chance
        self._name = journal.stem
        self._file = journal.open("a", buffering=1)
        self._latest: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(2)

    def forever(self) -> None:
        """Until the process is killed."""
        for number in range(1_000_000):
            self._one(f"{self._name}-{number}")
            if number % 5 == 0:
                self._wait_for_room()

    def _one(self, key: str) -> None:
        kind = soak_plan.choose(self._chance)
        after = self._latest.get(kind.after, "")
        if kind.after and not after:
            kind = soak_plan.KINDS[kind.after]
        body = soak_plan.body(kind, self._chance, after)
        self._write(key=key, kind=kind.name, body=body)
        times = 2 if self._chance.random() < AGAIN_SHARE else 1
        ids = list(self._pool.map(lambda _: self._submit(key, body), range(times)))
        self._latest[kind.name] = ids[0]
        if self._chance.random() < CANCEL_SHARE:
            time.sleep(self._chance.uniform(0, 2))
            self._write(key=key, cancel=True)
            with contextlib.suppress(GridError):
                self._client.cancel(ids[0], "a soak cancels now and then")

    def _submit(self, key: str, body: dict[str, Any]) -> str:
        began = time.monotonic()
        task_id = submit(self._client, key, body)
        self._write(key=key, id=task_id, seconds=round(time.monotonic() - began, 3))
        return task_id

    def _wait_for_room(self) -> None:
        while self._queued() > MOST_QUEUED:
            time.sleep(PAUSE_SECONDS)

    def _queued(self) -> int:
        try:
            return len(self._client.page({"state": "queued"}, limit=MOST_QUEUED + 1).items)
        except GridError:
            return 0

    def _write(self, **said: object) -> None:
        self._file.write(json.dumps(said) + "\n")


def clients() -> Iterator[str]:
    """Names for clients, one after the other."""
    return (f"client-{number}" for number in range(1_000_000))


def main() -> None:
    """``soak_clients.py JOURNAL SEED``; the server and the token are in the environment."""
    journal, seed = Path(sys.argv[1]), sys.argv[2]
    chance = random.Random(f"client {journal.stem} {seed}")  # noqa: S311 - chosen for its repeatability
    with Client(os.environ["GRID_SERVER"], os.environ["GRID_TOKEN"]) as client:
        Submitter(client, journal, chance).forever()


if __name__ == "__main__":
    main()
