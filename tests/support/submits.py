"""Submits over HTTP by a key, each a single time: what a caller is told while the records cannot be written."""

from __future__ import annotations

import json

import httpx

from tests.support.grids import RunningGrid
from tests.support.servers import Database
from tests.support.story import PATIENCE_SECONDS, ended_once


def submit(grid: RunningGrid, key: str) -> httpx.Response:
    """The answer to one submit with this idempotency key."""
    body = {"spec": {"image": "busybox:local", "args": ["true"]}, "name": key}
    headers = {"Authorization": f"Bearer {grid.token}", "Idempotency-Key": key}
    return httpx.post(f"{grid.server}/api/v1/tasks", json=body, headers=headers, timeout=PATIENCE_SECONDS)


def told_to_come_back(answer: httpx.Response) -> None:
    """The answer says that nothing was done, and when to ask again."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json"), answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert json.loads(answer.text)["detail"] == "the database is busy or away; try again"


def made_once(grid: RunningGrid, key: str) -> None:
    """A submit that was refused is made when it is repeated, and only once."""
    first, second = submit(grid, key), submit(grid, key)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert Database(grid).rows("SELECT id FROM core_task WHERE name = %s", key) == [(first.json()["id"],)]
    ended_once(grid.client.get(first.json()["id"]), 1)
