"""The page that takes tasks: fields from the schema, live checks, nothing sent twice, what similar tasks used."""

from __future__ import annotations

import hashlib
import json
import shlex
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from grid.core import intake, offers, outcomes
from grid.core.models import InputFile, Task
from grid.core.people import access, quotas, standing
from grid.core.reading.similar import similar
from tasks.limits import Limits
from tasks.outcome import Usage
from tasks.spec import parse_spec
from tasks.terms import Quota, Rules
from tests.django import builders as given
from tests.django import doors
from tests.django.test_pages import EVIL, Elements, page_of

pytestmark = pytest.mark.django_db

MIB = 1024**2


@pytest.fixture
def ada() -> Client:
    """Ada's browser."""
    return doors.browser_of(given.a_user())


def asked(client: Client, **fields: Any) -> Any:
    """What the check says to the fields."""
    answer = client.post("/submit/check/", fields)
    assert answer.status_code == 200
    return answer.json()


def listed(*contents: tuple[str, bytes], hashed: bool = True) -> str:
    """What a script tells of chosen files."""
    return json.dumps(
        [
            {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest() if hashed else ""}
            for path, data in contents
        ]
    )


def problems(found: Any) -> list[tuple[str, str]]:
    """Where the problems are, and beside which field they are shown."""
    return [(one["path"], one["field"]) for one in found["problems"]]


def inputs(page: str) -> dict[str, dict[str, str | None]]:
    """The inputs of a page by their names."""
    return {str(attrs["name"]): attrs for tag, attrs in Elements(page).found if tag == "input" and attrs.get("name")}


def ended(now: datetime, memory: int, **changes: Any) -> Task:
    """A task that used so much memory."""
    task, attempt, order = given.running(now, **changes)
    usage = Usage(wall_seconds=2.5, cpu_seconds=1.5, memory_peak_bytes=memory, pids_peak=3)
    outcomes.accept(attempt.node, given.an_outcome(order).model_copy(update={"usage": usage}), now)
    return Task.objects.get(id=task.id)


# -------------------------------------------------------------------------------------------------------------- fields
def test_the_fields_have_the_schemas_help_and_the_servers_defaults(ada: Client) -> None:
    page = page_of(ada, "/submit/")
    fields = inputs(page)
    assert "Wall time of the program, in seconds." in page
    assert fields["limits.memory"]["placeholder"] == "512M by default"
    assert fields["args"]["aria-describedby"] == "help-args usual-args fault-args"
    assert "More limits" in page


def test_filled_in_fields_are_a_task_without_any_file(ada: Client) -> None:
    fields = {"image": "busybox", "args": "sh -c 'echo hi'", "limits.memory": "64M", "labels": "course=a b", "key": "k"}
    assert ada.post("/submit/", fields).status_code == 302
    task = Task.objects.get()
    assert (task.spec["args"], task.limits["memory"], task.labels) == (
        ["sh", "-c", "echo hi"],
        64 * MIB,
        {"course": "a b"},
    )


def test_fields_go_before_the_description_in_the_folder(ada: Client) -> None:
    folder = {"w/task.json": json.dumps(given.a_spec(name="old", priority=3)), "w/a.txt": "x"}
    files = [("folder", (path, content.encode())) for path, content in folder.items()]
    request = httpx.Request("POST", "http://h/", data={"key": "k", "name": "new", "limits.memory": "1G"}, files=files)
    assert ada.post("/submit/", request.read(), content_type=request.headers["Content-Type"]).status_code == 302
    task = Task.objects.get()
    assert (task.name, task.priority, task.limits["memory"], task.limits["time"]) == ("new", 3, 1024 * MIB, 5)
    assert not task.inputs.exists()


def test_without_a_description_all_files_of_the_folder_are_taken_in(ada: Client) -> None:
    files = [("folder", (path, b"1\n")) for path in ("w/in/a.txt", "w/main.py")]
    request = httpx.Request("POST", "http://h/", data={"key": "k", "image": "busybox", "args": "uname"}, files=files)
    assert ada.post("/submit/", request.read(), content_type=request.headers["Content-Type"]).status_code == 302
    assert Task.objects.get().name == "w"
    assert sorted(InputFile.objects.values_list("path", flat=True)) == ["in/a.txt", "main.py"]


def test_a_description_may_be_chosen_as_a_file(ada: Client) -> None:
    chosen = SimpleUploadedFile("my.json", json.dumps(given.a_spec(name="mine")).encode())
    assert ada.post("/submit/", {"key": "k", "archive": chosen}).status_code == 302
    assert Task.objects.get().name == "mine"


def test_faults_stand_beside_their_fields_which_keep_their_text(ada: Client) -> None:
    answer = ada.post(
        "/submit/", {"key": "k", "image": "busybox", "args": "sh 'x", "limits.memory": "64X", "retry.delay": "1m"}
    )
    page = answer.content.decode()
    fields = inputs(page)
    assert answer.status_code == 422
    assert "3 things to mend" in page
    assert (fields["limits.memory"]["value"], fields["limits.memory"]["aria-invalid"]) == ("64X", "true")
    assert "close every quotation mark" in page
    assert "aria-invalid" not in fields["image"]
    (retry,) = [part for part in page.split("<details") if "<summary>Retry</summary>" in part]
    assert retry.split(">")[0].endswith("open")


def test_a_check_without_scripts_makes_nothing(ada: Client) -> None:
    page = ada.post("/submit/", {"key": "k", "image": "busybox", "args": "uname", "only": "check"}).content.decode()
    assert "would take this task" in page
    assert "grid submit FOLDER" in page
    assert not Task.objects.exists()


def test_images_are_suggested_that_nodes_have_and_lists_name_if_they_may_be_used(ada: Client) -> None:
    now = timezone.now()
    given.a_node(now, images=("busybox:latest", "other/secret:1"))
    assert '<option value="other/secret:1">' in page_of(ada, "/submit/")
    rules = Rules(images=("busybox*", "judge:*", "gcc:14"), image_names={"gcc": "gcc:14"})
    standing.decide(given.a_user(), rules, by="root", now=now)
    page = Elements(page_of(ada, "/submit/"))
    options = [attrs["value"] for tag, attrs in page.found if tag == "option"]
    assert [one for one in options if one not in ("", "true", "false")] == ["busybox", "gcc", "gcc:14"]


# --------------------------------------------------------------------------------------------------------------- check
def test_the_check_tells_every_problem_with_its_field_and_makes_nothing(ada: Client) -> None:
    found = asked(ada, whole="1", **{"image": "busybox", "limits.memory": "64X", "labels": "a", "stdin": "none.txt"})
    assert set(problems(found)) == {("limits.memory", "limits.memory"), ("labels", "labels"), ("stdin", "stdin")}
    assert all(one["message"] for one in found["problems"])
    assert not Task.objects.exists()


def test_what_can_never_run_or_is_not_allowed_is_said_before_the_submit(ada: Client) -> None:
    now = timezone.now()
    whole = {"image": "busybox", "args": "uname", "whole": "1"}
    given.a_node(now, registry=False)
    never = asked(ada, **whole, **{"limits.memory": "900G"})
    assert "no node of this grid can ever run it" in never["problems"][0]["message"]
    assert problems(asked(ada, **whole, **{"limits.network": "true"})) == [("limits.network", "limits.network")]
    assert problems(asked(ada, **{**whole, "image": "nothing/like:it"})) == [("image", "image")]
    standing.decide(given.a_user(), Rules(quota=Quota(queued=0)), by="root", now=now)
    assert "quota" in asked(ada, **whole)["problems"][0]["message"]


def test_a_description_fills_the_fields_and_its_unknown_keys_are_told(ada: Client) -> None:
    text = json.dumps({"image": "busybox", "args": ["uname", "-a"], "argz": 1})
    found = asked(ada, spec=text, fill="1", whole="1")
    assert found["texts"] == {"image": "busybox", "args": "uname -a", "other": '{"argz": 1}'}
    assert [one["path"] for one in found["problems"]] == ["argz"]
    assert problems(asked(ada, whole="1", **found["texts"])) == [("argz", "other")]
    assert asked(ada, spec="{", fill="1")["problems"]


def test_only_contents_that_one_has_shown_to_have_count_as_stored(ada: Client) -> None:
    now = timezone.now()
    intake.upload(given.a_user("bob"), [b"of bob"], None, now)
    intake.upload(given.a_user(), [b"of ada"], None, now)
    chosen = listed(("a", b"of ada"), ("b", b"of bob"), ("c", b"new"))
    found = asked(ada, image="busybox", args="uname", whole="1", listed=chosen)
    assert sorted(found["files"]["taken"]) == ["a", "b", "c"]
    wanted = {hashlib.sha256(data).hexdigest() for data in (b"of bob", b"new")}
    assert set(found["files"]["missing"]) == wanted
    assert found["problems"] == []


def test_files_that_a_description_names_and_nobody_chose_are_told(ada: Client) -> None:
    spec = {"image": "busybox", "args": "cat a", "files": "a\nd=in", "whole": "1"}
    found = asked(ada, **spec, listed=listed(("in/x", b"1"), ("task.json", b"{}"), hashed=False))
    assert problems(found) == [("files.a", "files")]
    assert found["files"]["taken"] == ["in/x"]


def test_a_path_that_leaves_the_folder_is_refused(ada: Client) -> None:
    rows = json.dumps([{"path": "../x", "size": 1}])
    found = asked(ada, image="busybox", args="uname", whole="1", listed=rows)
    assert [one["path"] for one in found["problems"]] == ["files.../x"]
    assert asked(ada, listed="[3]")["problems"]


def test_the_same_is_told_as_a_command(ada: Client) -> None:
    base = json.dumps(given.a_spec())
    fields = {"image": "busybox", "args": "uname", "limits.memory": "64M", "limits.cpus": "1", "limits.time": "5s"}
    same = asked(ada, whole="1", base=base, folder_name="my folder", **fields)["same"]
    assert same == {"shell": "grid submit 'my folder'", "python": "grid.submit('my folder')", "save": False}
    same = asked(ada, whole="1", base=base, folder_name="f", **{**fields, "limits.memory": "1G", "name": "x y"})["same"]
    assert same["shell"] == "grid submit f --memory 1G --name 'x y'"
    assert same["python"] == "grid.submit('f', name='x y', limits={'memory': '1G'})"
    assert asked(ada, whole="1", base=base, **{**fields, "priority": "3"})["same"]["save"]


def test_the_check_needs_its_csrf_token() -> None:
    assert doors.browser_of(given.a_user(), csrf=True).post("/submit/check/", {}).status_code == 403


def test_a_check_takes_the_same_number_of_queries_however_many_files_there_are(
    ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for remembering in (access, offers, quotas, standing):
        monkeypatch.setattr(remembering, "REMEMBER_SECONDS", 1e6)

    def queries(count: int) -> int:
        chosen = listed(*((f"f{number}", str(number).encode()) for number in range(count)))
        with CaptureQueriesContext(connection) as made:
            asked(ada, image="busybox", args="uname", whole="1", listed=chosen)
        return len(made)

    queries(1)
    assert queries(1) == queries(400)


# ---------------------------------------------------------------------------------------------------------------- send
JSON = {"accept": "application/json"}


def test_a_script_sends_names_and_hashes_and_the_same_key_makes_one_task(ada: Client) -> None:
    intake.upload(given.a_user(), [b"1 2\n"], None, timezone.now())
    fields = {"key": "k", "whole": "1", "image": "busybox", "args": "cat in/a", "folder_name": "week3"}
    fields["listed"] = listed(("in/a", b"1 2\n"))
    first, second = (ada.post("/submit/", fields, headers=JSON) for _ in range(2))
    task = Task.objects.get()
    assert (first.status_code, first.json()) == (201, {"location": f"/tasks/{task.id}/"})
    assert second.json() == first.json()
    assert (task.name, task.inputs.get().path) == ("week3", "in/a")
    other = ada.post("/submit/", {**fields, "args": "uname"}, headers=JSON)
    assert other.status_code == 409


def test_a_content_of_somebody_else_cannot_be_had_by_its_hash(ada: Client) -> None:
    intake.upload(given.a_user("bob"), [b"secret"], None, timezone.now())
    fields = {"key": "k", "whole": "1", "image": "busybox", "args": "cat a", "listed": listed(("a", b"secret"))}
    answer = ada.post("/submit/", fields, headers=JSON)
    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["problems"]] == ["files"]
    unhashed = ada.post("/submit/", {**fields, "listed": listed(("a", b"x"), hashed=False)}, headers=JSON)
    assert unhashed.status_code == 422
    assert not Task.objects.exists()


def test_the_door_for_contents_takes_a_session_with_its_csrf_token(ada: Client) -> None:
    browser = doors.browser_of(given.a_user(), csrf=True)
    browser.get("/submit/")
    sha256 = hashlib.sha256(b"x").hexdigest()
    address = f"/api/v1/blobs/{sha256}"
    assert browser.put(address, b"x", content_type="application/octet-stream").status_code == 403
    token = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    assert browser.put(address, b"x", content_type="application/octet-stream", headers=token).status_code == 201


# --------------------------------------------------------------------------------------------------------------- again
def test_a_task_is_run_again_with_changes_in_the_same_fields(ada: Client) -> None:
    old = given.a_task(timezone.now(), files={"in.txt": {"content": "1\n"}}, labels={"n": "1"})
    page = page_of(ada, f"/tasks/{old.id}/again/")
    fields = inputs(page)
    assert (fields["limits.memory"]["value"], fields["whole"]["value"]) == ("64M", "1")
    files = page.split('name="files"')[1].split(">", 1)[1].split("</textarea>")[0].replace("&quot;", '"')
    changed = {"key": "k", "whole": "1", "image": "busybox", "args": "uname -r", "files": files}
    assert ada.post(f"/tasks/{old.id}/again/", changed).status_code == 302
    new = Task.objects.exclude(id=old.id).get()
    assert (new.spec["args"], new.inputs.get().blob_id) == (["uname", "-r"], old.inputs.get().blob_id)
    assert "memory" not in new.spec.get("limits", {})


def test_files_that_are_chosen_for_a_task_that_is_run_again_come_beside_its_own(ada: Client) -> None:
    old = given.a_task(timezone.now(), files={"in.txt": {"content": "1\n"}, "b.txt": {"content": "old"}})
    fields = {"key": "k", "whole": "1", "spec": json.dumps(old.spec)}
    chosen = [SimpleUploadedFile("a.txt", b"a"), SimpleUploadedFile("b.txt", b"new")]
    assert ada.post(f"/tasks/{old.id}/again/", {**fields, "inputs": chosen}).status_code == 302
    new = Task.objects.exclude(id=old.id).get()
    sizes = dict(new.inputs.values_list("path", "blob__size"))
    assert sizes == {"a.txt": 1, "b.txt": 3, "in.txt": 2}
    assert new.inputs.get(path="b.txt").blob_id != old.inputs.get(path="b.txt").blob_id
    found = asked(ada, whole="1", spec=json.dumps(old.spec), again=old.id, listed=listed(("c.txt", b"c")))
    assert found["files"]["taken"] == ["c.txt"]


def test_changes_to_a_task_are_told_as_a_command_that_makes_the_same(ada: Client) -> None:
    old = given.a_task(timezone.now(), collect=[{"glob": "x"}])
    fields = {"image": "busybox", "args": "uname -a", "limits.memory": "1G", "limits.cpus": "1", "limits.time": "5s"}
    same = asked(ada, whole="1", again=old.id, name="uname", **fields)["same"]
    words = shlex.split(same["shell"])
    assert words[:3] == ["grid", "copy", old.id]
    said = {key: json.loads(value) for key, _, value in (one.partition("=") for one in words[4::2])}
    limits = {"memory": "1G", "cpus": "1", "time": "5s"}
    assert said == {"args": ["uname", "-a"], "collect": [], "limits": limits}
    assert same["python"].startswith(f"grid.get('{old.id}').copy(args=['uname', '-a'], collect=[], ")
    assert asked(ada, whole="1", again=old.id, files="new.txt", **fields)["same"] is None


def test_who_manages_a_task_is_not_asked_for_its_files(ada: Client) -> None:
    old = given.a_task(timezone.now(), files={"in.txt": {"content": "1\n"}})
    text = json.dumps(old.spec)
    root = doors.browser_of(given.a_user("root", staff=True))
    assert asked(root, whole="1", spec=text, again=old.id)["problems"] == []
    assert "not yours" in asked(root, whole="1", spec=text)["problems"][0]["message"]
    bob = doors.browser_of(given.a_user("bob"))
    assert bob.post("/submit/check/", {"again": old.id}).status_code == 404


# ------------------------------------------------------------------------------------------------------------- similar
def test_what_similar_tasks_used_is_told_on_the_page_and_by_the_api(ada: Client) -> None:
    now = timezone.now()
    for number in range(3):
        old = ended(now, (300 + number) * MIB, limits={"memory": "4G", "time": "10s"})
    words = "asked 4G; the last 3 used at most 302M"
    found = asked(ada, whole="1", image="busybox", args="uname -a")
    assert found["usual"]["limits.memory"] == {"words": words, "suggested": "512M"}
    assert words in page_of(ada, f"/tasks/{old.id}/again/")
    answer = doors.api_of(given.a_user()).post(
        "/api/v1/tasks/check", {"spec": given.a_spec()}, content_type="application/json"
    )
    view = answer.json()
    assert (view["problems"], view["similar"]["count"], view["limits"]["memory"]) == ([], 3, 64 * MIB)
    assert view["similar"]["limits"][0]["words"] == words
    bob = doors.browser_of(given.a_user("bob"))
    assert asked(bob, whole="1", image="busybox", args="uname -a")["usual"] == {}


def test_the_api_tells_problems_and_missing_contents_without_making_anything() -> None:
    spec = given.a_spec(limits={"memory": "64X"}, argz=1)
    ada = doors.api_of(given.a_user())
    view = ada.post("/api/v1/tasks/check", {"spec": spec}, content_type="application/json").json()
    assert {one["path"] for one in view["problems"]} == {"limits.memory", "argz"}
    spec = given.a_spec(files={"a": {"reference": "0" * 64}})
    view = ada.post("/api/v1/tasks/check", {"spec": spec}, content_type="application/json").json()
    assert (view["problems"], view["missing"]) == ([], ["0" * 64])
    assert not Task.objects.exists()


def test_tasks_of_other_programs_and_those_that_never_ran_teach_nothing() -> None:
    now = timezone.now()
    ended(now, MIB, args=["date"])
    given.a_task(now, args=["uname"])
    ada = given.a_user()
    assert similar(ada, parse_spec(given.a_spec())) is None
    found = similar(ada, parse_spec(given.a_spec(args=["date", "-u"])))
    assert found is not None
    assert (found.count, found.by) == (1, "program")
    assert similar(ada, parse_spec({"args": ["date"]})) is None


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL decides by what the tables hold")
def test_similar_tasks_are_found_by_their_own_index_in_two_questions() -> None:
    now = timezone.now()
    ended(now - timedelta(seconds=9), MIB)
    ada = given.a_user()
    with CaptureQueriesContext(connection) as made:
        similar(ada, parse_spec(given.a_spec()))
    assert len(made) == 2
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {made[0]['sql']}")
        plan = [row[3] for row in cursor.fetchall()]
    assert any("task_likeness" in line for line in plan), plan
    assert not any("TEMP B-TREE" in line for line in plan), plan


def test_nothing_that_somebody_typed_comes_alive(ada: Client) -> None:
    answer = ada.post("/submit/", {"key": "k", "name": EVIL, "image": EVIL, "labels": EVIL, "other": EVIL, "spec": ""})
    page = Elements(answer.content.decode())
    assert answer.status_code == 422
    assert all(str(attrs.get("src")).startswith("/static/") for tag, attrs in page.found if tag == "img")
    assert not [tag for tag, attrs in page.found if any(name.startswith("on") for name in attrs)]
    found = asked(ada, name=EVIL, image=EVIL)
    assert EVIL[:20] in found["problems"][0]["message"]


def test_limits_of_a_user_are_the_defaults_that_they_see(ada: Client) -> None:
    standing.decide(given.a_user(), Rules(limits=Limits(memory=64 * MIB)), by="root", now=timezone.now())
    assert inputs(page_of(ada, "/submit/"))["limits.memory"]["placeholder"] == "64M by default"
    found = asked(ada, whole="1", image="busybox", **{"limits.memory": "4G", "limits.time": "9s"})
    assert found["usual"] == {"limits.memory": {"words": "asked 4G; at most 64M is given here.", "suggested": ""}}
