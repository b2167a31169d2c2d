"""The one door: what is taken, what is refused, and that nothing is left behind by a refusal."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from grid.core import intake
from grid.core.models import InputFile, Task
from grid.core.people import access
from tasks.errors import Conflict, NotFound, SpecError
from tests.django import builders as given

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def faults_of(**changes: Any) -> list[str]:
    """The faults that a submit is refused with; there must be some, and no task."""
    with pytest.raises(SpecError) as refused:
        given.a_task(NOW, **changes)
    assert not Task.objects.exists()
    return [str(fault) for fault in refused.value.faults]


def test_the_same_idempotency_key_gives_the_same_task() -> None:
    first = given.a_task(NOW, key="k1")
    again, created = intake.submit(
        owner=given.a_user(), spec=given.a_spec(), contents={}, default_name="uname", idempotency_key="k1", now=NOW
    )
    assert (again.id, created) == (first.id, False)
    assert given.a_task(NOW, key="k2").id != first.id
    assert given.a_task(NOW, given.a_user("bob"), key="k1").id != first.id


def test_an_idempotency_key_cannot_be_used_for_another_task() -> None:
    given.a_task(NOW, key="k1")
    with pytest.raises(Conflict, match="take a new one"):
        given.a_task(NOW, key="k1", args=["date"])


def test_content_written_in_the_spec_is_stored_and_named_by_its_hash() -> None:
    task = given.a_task(NOW, files={"a/in.txt": {"content": "3 4\n"}, "run.sh": {"content": "x", "executable": True}})
    digest = hashlib.sha256(b"3 4\n").hexdigest()
    rows = InputFile.objects.filter(task=task).values_list("path", "blob_id", "executable")
    assert sorted(rows)[0] == ("a/in.txt", digest, False)
    assert sorted(rows)[1][2]
    assert task.spec["files"]["a/in.txt"]["reference"] == digest


def test_a_file_of_somebody_else_cannot_be_used_by_its_hash() -> None:
    stored = intake.upload(given.a_user("bob"), [b"secret"], None, NOW)
    assert faults_of(files={"x": {"reference": stored.sha256}}) == [
        f"files.x: the content {stored.sha256} is not stored here, or is not yours; upload it first"
    ]
    assert access.may_read_blob(given.a_user("bob"), stored.sha256)
    assert not access.may_read_blob(given.a_user("ada"), stored.sha256)


def test_a_path_without_its_content_is_a_fault() -> None:
    assert "its content did not come along" in faults_of(files={"x": "x"})[0]


def test_the_network_is_refused_where_it_is_not_allowed() -> None:
    assert faults_of(limits={"network": True})[0].startswith("limits.network: the network is not allowed")


def test_a_task_that_no_node_could_ever_run_is_refused_with_the_reason() -> None:
    given.a_node(NOW)
    (fault,) = faults_of(limits={"cpus": 64})
    assert "no node of this grid can ever run it" in fault
    assert "64" in fault


def test_an_image_that_no_node_has_is_refused_when_none_can_pull() -> None:
    given.a_node(NOW, registry=False)
    assert faults_of(image="busybocks") == [
        'image: no node has the image "busybocks" and none can pull it; did you mean "busybox:latest"?'
    ]
    assert given.a_task(NOW, image="docker.io/library/busybox").state == "queued"


def test_an_image_of_a_named_registry_is_left_to_the_node() -> None:
    given.a_node(NOW, registry=False)
    assert faults_of(image="docker.io/team/tool:1") != []
    assert given.a_task(NOW, image="registry.lab:5000/team/tool:1").state == "queued"


def test_an_unknown_image_is_taken_when_a_node_can_pull() -> None:
    given.a_node(NOW, registry=True)
    assert given.a_task(NOW, image="whatever").state == "queued"


def test_unknown_secrets_and_tasks_are_faults() -> None:
    faults = faults_of(secrets=["API_KEY"], after=["0" * 32])
    assert faults[0].startswith('secrets: there is no secret "API_KEY"')
    assert faults[1].startswith("after: there is no task 000")


def test_a_task_after_somebody_elses_task_is_refused() -> None:
    foreign = given.a_task(NOW, given.a_user("bob"))
    with pytest.raises(SpecError, match="or it is not yours"):
        given.a_task(NOW, after=[foreign.id])


def test_limits_are_filled_from_the_servers_policy_and_never_above_its_caps() -> None:
    task = given.a_task(NOW, limits={"memory": "64M"})
    assert task.limits["memory"] == 64 * 1024**2
    assert task.limits["time"] == 3600
    assert task.limits["network"] is False


def test_tasks_of_one_owner_with_equal_needs_share_a_demand() -> None:
    first, second = given.a_task(NOW, args=["uname"]), given.a_task(NOW, args=["date"])
    other = given.a_task(NOW, limits={"memory": "128M"})
    assert first.demand_id == second.demand_id != other.demand_id
    assert given.a_task(NOW, given.a_user("bob")).demand_id != first.demand_id


def test_only_the_owner_and_staff_see_a_task() -> None:
    task = given.a_task(NOW, given.a_user("ada"))
    assert access.get_task(given.a_user("ada"), task.id) == task
    assert access.get_task(given.a_user("root", staff=True), task.id) == task
    with pytest.raises(NotFound):
        access.get_task(given.a_user("bob"), task.id)
