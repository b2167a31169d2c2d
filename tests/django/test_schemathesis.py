"""Requests made from the API's description of itself: well-formed and malformed ones, answered as it says."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from grid.core import logs, outcomes
from grid.core.models import Delivery
from grid.core.people.tokens import Scope
from tests.django import builders as world
from tests.django import doors
from webapp.api import outputs, tasks
from webapp.api.routes import api
from webapp.wsgi import application

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
    # The client of these requests reads files to their end, and leaves closing them to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

EXAMPLES = 4
# A stream that does not end, and a look that waits for a broker.
LEFT_OUT = {"GET /api/v1/events", "GET /api/v1/doctor"}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DOCUMENT = json.loads(json.dumps(api.get_openapi_schema()))
PARTS = sorted({path.split("/")[3] for path in DOCUMENT["paths"]})


def names_of_things() -> dict[str, str]:
    """Things that are there, so that not everything is unknown: a finished task of ada's with files and a log."""
    now = timezone.now()
    task, attempt, order = world.running(now, owner=world.a_user())
    logs.append(attempt.id, "stdout", 0, b"Linux\n")
    outcomes.accept(attempt.node, world.an_outcome(order, {"stdout.txt": b"Linux\n"}), now)
    delivery = Delivery.objects.create(
        task=task, owner=task.owner, url="https://host.example/", host="", state="failed", made_at=now, tries_left=0
    )
    return {"task_id": task.id, "stream": "stdout", "path": "stdout.txt", "delivery_id": delivery.id, "name": "alpha"}


def problems_of(part: str, names: dict[str, str], token: str) -> list[str]:
    """What is answered otherwise than described, over all operations of one part of the API."""
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", application)
    found: list[str] = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if operation.path.split("/")[3] != part or operation.label in LEFT_OUT:
            continue
        known = {name: text for name, text in names.items() if "{" + name + "}" in operation.path}
        for mode, there in ((GenerationMode.POSITIVE, known), (GenerationMode.NEGATIVE, {})):

            @seed(4)
            @settings(
                max_examples=EXAMPLES,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode, path_parameters=there))
            def ask(case: Case[Any]) -> None:
                case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS)

            try:
                ask()
            except Unsatisfiable:
                continue  # what takes nothing cannot be asked malformed
            except (AssertionError, ExceptionGroup) as error:
                found.append(f"{operation.label} ({mode.value}): {error}")
    return found


@pytest.mark.parametrize("part", PARTS)
def test_every_answer_is_as_the_description_says(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tasks, outputs):
        monkeypatch.setattr(module, "WAIT_SECONDS", 0.0)
    names = names_of_things()
    staff = world.a_user("root", staff=True)
    User.objects.filter(pk=staff.pk).update(email="root@host.example")
    token = doors.a_token(staff, *doors.EVERY_SCOPE)
    if part == "node":
        token = doors.a_token(staff, Scope.NODE, node=world.a_node(timezone.now()))
    assert problems_of(part, names, token) == []
