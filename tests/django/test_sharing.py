"""Groups: what their permissions open, and tasks that are shared with them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from grid.core import intake, outcomes
from grid.core.models import Task
from grid.core.people import access, members, standing
from grid.core.reading import lists
from grid.core.reading.lists import Place
from grid.core.upkeep import removal
from tasks.errors import Conflict, NotAllowed, NotFound, SpecError
from tasks.terms import Rules
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def a_member(name: str, *groups: str) -> User:
    """A user in these groups, which are made if they are not there."""
    for group in groups:
        Group.objects.get_or_create(name=group)
    user = given.a_user(name)
    members.set_groups(user, groups)
    return User.objects.get(pk=user.pk)


def sees(user: User) -> set[str]:
    """The names of the tasks that a user sees."""
    page = lists.page(user, {}, Place(), 100)
    listed = {one.name for one in page.items}
    assert listed == {task.name for task in access.visible_tasks(user)}
    return listed


@pytest.fixture
def tasks() -> dict[str, Task]:
    """A task of ada's and one of bob's, who are both students; carol's is nobody's business."""
    for name in ("ada", "bob"):
        a_member(name, "students")
    return {name: given.a_task(NOW, given.a_user(name), name=name) for name in ("ada", "bob", "carol")}


def test_the_groups_of_kolejka_are_there_with_their_permissions() -> None:
    found = {group.name: set(group.permissions.values_list("codename", flat=True)) for group in Group.objects.all()}
    assert "add_task" in found["Clients"]
    assert "view_task" in found["Inspectors"]
    assert {"view_task", "delete_task"} <= found["Managers"]
    assert found["Processors"] & {"add_task", "view_task", "delete_task"} == set()


def test_inspectors_see_all_and_change_nothing(tasks: dict[str, Task]) -> None:
    ivy = a_member("ivy", "Inspectors")
    assert sees(ivy) == {"ada", "bob", "carol"}
    api = doors.api_of(ivy)
    assert api.get(f"/api/v1/tasks/{tasks['ada'].id}").status_code == 200
    refused = api.post(f"/api/v1/tasks/{tasks['ada'].id}/cancel", {"reason": "x"}, content_type="application/json")
    assert refused.status_code == 403
    assert doors.browser_of(ivy).post(f"/tasks/{tasks['ada'].id}/cancel/", {"reason": ""}).status_code == 403
    assert api.get("/api/v1/doctor").status_code == 403


def test_managers_cancel_and_remove_all(tasks: dict[str, Task]) -> None:
    max_ = a_member("max", "Managers")
    path = f"/api/v1/tasks/{tasks['ada'].id}"
    api = doors.api_of(max_)
    with pytest.raises(Conflict):
        removal.remove(access.own_task(max_, tasks["ada"].id), now=NOW)
    assert api.post(f"{path}/cancel", {"reason": "spam"}, content_type="application/json").status_code == 200
    removal.remove(access.own_task(max_, tasks["ada"].id), now=NOW)
    assert sees(max_) == {"bob", "carol"}


def test_where_submitting_is_not_open_only_clients_may(settings: LazySettings) -> None:
    settings.GRID = settings.GRID.model_copy(update={"open_submit": False})
    ada, eve = given.a_user(), a_member("eve", "Clients")
    with pytest.raises(NotAllowed, match="member of Clients"):
        given.a_task(NOW, ada)
    with pytest.raises(NotAllowed):
        intake.upload(ada, [b"x"], None, NOW)
    assert (
        doors.api_of(ada).post("/api/v1/tasks", {"spec": given.a_spec()}, content_type="application/json").status_code
        == 403
    )
    given.a_task(NOW, eve)
    given.a_task(NOW, given.a_user("root", staff=True))


def test_members_see_one_another_only_where_the_group_shares(tasks: dict[str, Task]) -> None:
    bob = given.a_user("bob")
    assert sees(bob) == {"bob"}
    group = Group.objects.get(name="students")
    standing.decide(group, Rules(share=True), by="root", now=NOW)
    access.forget()
    assert sees(bob) == {"ada", "bob"}
    assert sees(given.a_user("carol")) == {"carol"}
    with pytest.raises(NotAllowed, match="ada's; you may look at it"):
        access.own_task(bob, tasks["ada"].id)
    with pytest.raises(NotFound):
        access.own_task(bob, tasks["carol"].id)


def test_a_user_may_share_with_all_groups_of_theirs(tasks: dict[str, Task]) -> None:
    ada, bob = given.a_user(), given.a_user("bob")
    standing.decide(ada, Rules(share=True), by="ada", now=NOW)
    access.forget()
    assert sees(bob) == {"ada", "bob"}
    assert sees(ada) == {"ada"}
    members.set_groups(bob, [])
    assert sees(bob) == {"bob"}


def test_one_task_is_shared_with_a_group_of_its_owner_and_taken_back(tasks: dict[str, Task]) -> None:
    ada, bob = given.a_user(), given.a_user("bob")
    given.a_task(NOW, ada, name="secret")
    Group.objects.create(name="others")
    with pytest.raises(NotFound, match="in no group"):
        access.share(tasks["ada"], "others")
    access.share(tasks["ada"], "students")
    assert sees(bob) == {"ada", "bob"}
    assert doors.browser_of(bob).get(f"/tasks/{tasks['ada'].id}/").status_code == 200
    access.share(tasks["ada"], "")
    assert sees(bob) == {"bob"}


def test_files_of_shared_tasks_can_be_read_but_not_used() -> None:
    ada, bob = a_member("ada", "students"), a_member("bob", "students")
    task, attempt, order = given.running(timezone.now(), owner=ada)
    outcomes.accept(attempt.node, given.an_outcome(order, {"out": b"data"}), timezone.now())
    sha256 = task.attempts.get().outputs.get().blob_id
    assert not access.may_read_blob(bob, sha256)
    access.share(task, "students")
    assert access.may_read_blob(bob, sha256)
    assert not access.may_read_blob(given.a_user("carol"), sha256)
    with pytest.raises(SpecError, match="not yours"):
        given.a_task(NOW, bob, files={"x": {"reference": sha256}})


def test_a_list_asks_the_same_number_of_questions_however_many_share(tasks: dict[str, Task]) -> None:
    group = Group.objects.get(name="students")
    standing.decide(group, Rules(share=True), by="root", now=NOW)

    def asked() -> int:
        bob = given.a_user("bob")
        with CaptureQueriesContext(connection) as found:
            access.forget()
            lists.page(bob, {}, Place(), 10)
        return len(found)

    few = asked()
    for number in range(10):
        given.a_task(NOW, a_member(f"user{number}", "students"), name=f"user{number}")
    assert asked() == few
    assert len(sees(given.a_user("bob"))) == 12
