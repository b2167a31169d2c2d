"""A node's whole conversation with the server over HTTP, from hello to the accepted outcome."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from grid.core import intake, logs
from grid.core.models import Attempt, Node
from tasks.order import Order
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> Client:
    """The door of node alpha."""
    alpha = Node.objects.create(name="alpha", created_at=timezone.now())
    return doors.api_of_node(alpha, given.a_user("root", staff=True))


def tell(node: Client, path: str, body: dict[str, Any]) -> Any:
    """The answer to a message of the node."""
    return node.post(f"/api/v1/node/{path}", body, content_type="application/json")


def hello(node: Client, session: str = "s1") -> Any:
    """The answer to a hello."""
    return tell(node, "hello", {"session": session, "facts": given.facts().model_dump(mode="json")})


def taken(node: Client, **changes: Any) -> Order:
    """The order of a new task that the node has taken up."""
    attempt = given.assigned(given.a_task(timezone.now(), **changes), Node.objects.get(), timezone.now())
    answer = tell(node, f"attempts/{attempt.id}/order", {"session": "s1", "nonce": attempt.nonce})
    assert answer.status_code == 200
    return Order.model_validate_json(answer.content)


def sent_log(node: Client, order: Order, data: bytes) -> Any:
    return node.post(
        f"/api/v1/node/attempts/{order.attempt}/logs/stdout?offset=0",
        data,
        content_type="application/octet-stream",
        headers={"Grid-Attempt-Token": order.token},
    )


def test_a_task_goes_through_a_node(node: Client) -> None:
    welcome = hello(node).json()
    assert (welcome["node"], welcome["queue"], welcome["drop"]) == ("alpha", "node.alpha", [])
    stored = intake.upload(given.a_user(), [b"x" * 100_000], None, timezone.now())
    order = taken(node, files={"in.bin": {"reference": stored.sha256}})
    mine = {"Grid-Attempt-Token": order.token}

    blob = node.get(f"/api/v1/node/attempts/{order.attempt}/blobs/{order.files[0].sha256}", headers=mine)
    assert blob.getvalue() == b"x" * 100_000
    assert tell(node, f"attempts/{order.attempt}/phase", {"token": order.token, "phase": "executing"}).json() == {
        "accepted": True
    }
    assert sent_log(node, order, b"Linux\n").json() == {"size": 6}
    pulse = {"attempt": order.attempt, "token": order.token, "phase": "executing"}
    beat = tell(node, "heartbeat", {"session": "s1", "attempts": [pulse]})
    assert beat.json() == {"waiting": [], "cancel": [], "hand_back": [], "stale": [], "hello": False}

    outcome = given.an_outcome(order, {"out.txt": b"result"}).model_copy(update={"inline": {}})
    path = f"attempts/{order.attempt}/outcome"
    refused = tell(node, path, outcome.model_dump(mode="json"))
    (missing,) = refused.json()["missing"]
    assert refused.status_code == 409
    sent = node.put(
        f"/api/v1/node/attempts/{order.attempt}/blobs/{missing}",
        b"result",
        content_type="application/octet-stream",
        headers=mine,
    )
    assert (sent.status_code, sent.json()["size"]) == (201, 6)
    assert tell(node, path, outcome.model_dump(mode="json")).json() == {"accepted": True}
    again = tell(node, path, outcome.model_dump(mode="json"))
    assert (again.status_code, again.json()["title"]) == (409, "Stale")
    attempt = Attempt.objects.get()
    assert (attempt.verdict, attempt.task.state) == ("succeeded", "succeeded")
    assert logs.read(attempt, "stdout", 0, 100).data == b"Linux\n"


def test_a_part_of_a_log_after_a_gap_is_refused_and_a_known_one_is_skipped(node: Client) -> None:
    hello(node)
    order = taken(node)

    def send(offset: int, data: bytes) -> Any:
        path = f"/api/v1/node/attempts/{order.attempt}/logs/stderr?offset={offset}"
        kind = "application/octet-stream"
        return node.post(path, data, content_type=kind, headers={"Grid-Attempt-Token": order.token})

    assert send(0, b"abc").json() == {"size": 3}
    assert send(1, b"bcd").json() == {"size": 4}
    assert send(9, b"z").status_code == 409
    assert send(0, b"z" * (8 * 1024**2 + 1)).status_code == 413


def test_a_message_that_was_forged_opens_no_order(node: Client) -> None:
    hello(node)
    attempt = given.assigned(given.a_task(timezone.now()), Node.objects.get(), timezone.now())
    answer = tell(node, f"attempts/{attempt.id}/order", {"session": "s1", "nonce": "guessed"})
    assert (answer.status_code, answer.json()["title"]) == (409, "Stale")


def test_another_nodes_token_opens_nothing_of_an_attempt(node: Client) -> None:
    hello(node)
    order = taken(node)
    beta = Node.objects.create(name="beta", created_at=timezone.now())
    other = doors.api_of_node(beta, given.a_user("root", staff=True))
    outcome = given.an_outcome(order).model_dump(mode="json")
    assert tell(other, f"attempts/{order.attempt}/outcome", outcome).status_code == 409
    assert (
        tell(other, f"attempts/{order.attempt}/phase", {"token": order.token, "phase": "executing"}).status_code == 409
    )


def test_an_agent_whose_name_was_taken_over_is_told_to_stop(node: Client) -> None:
    hello(node, "s1")
    hello(node, "s2")
    assert tell(node, "heartbeat", {"session": "s1"}).status_code == 409


def test_what_no_column_can_hold_is_refused_whatever_the_database(node: Client) -> None:
    for session in ("s" * 65, "", "nul\0", "s 1"):
        assert hello(node, session).status_code == 422, session
    assert Node.objects.get().session == ""
    assert hello(node).status_code == 200
    assert tell(node, "heartbeat", {"session": "s" * 65}).status_code == 422

    order = taken(node)
    report = given.an_outcome(order).model_dump(mode="json")
    for code in (2**31, -(2**31) - 1):
        odd = {**report, "evidence": {**report["evidence"], "exit_code": code}}
        assert tell(node, f"attempts/{order.attempt}/outcome", odd).status_code == 422, code
    long = {"path": "p" * 4097, "sha256": "0" * 64, "size": 1}
    assert tell(node, f"attempts/{order.attempt}/outcome", {**report, "files": [long]}).status_code == 422
    nul = {**report, "evidence": {**report["evidence"], "start_error": "a\0b"}}
    answer = tell(node, f"attempts/{order.attempt}/outcome", nul)
    assert answer.status_code == (422 if connection.vendor == "postgresql" else 200), "one database can keep it"
    worst = {**report, "evidence": {**report["evidence"], "exit_code": -(2**31)}}
    assert tell(node, f"attempts/{order.attempt}/outcome", worst).status_code in (200, 409)


def test_an_outcome_under_another_address_is_refused(node: Client) -> None:
    hello(node)
    outcome = given.an_outcome(taken(node)).model_dump(mode="json")
    assert tell(node, f"attempts/{'0' * 32}/outcome", outcome).status_code == 409


def test_nodes_are_shown_to_people(node: Client) -> None:
    hello(node)
    (shown,) = doors.api_of(given.a_user()).get("/api/v1/nodes").json()
    assert (shown["name"], shown["online"], shown["slots"], shown["running"]) == ("alpha", True, 8, 0)
    assert doors.api_of(given.a_user()).get("/api/v1/nodes/alpha").json()["name"] == "alpha"
