"""The pages: verdict and reason first, forms that name every fault, and nothing that a stranger wrote comes alive."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from grid.core import logs, outcomes, records
from grid.core.models import InputFile, Task
from tasks.outcome import PhaseTimes, Usage
from tests.django import builders as given
from tests.django import doors

pytestmark = pytest.mark.django_db

EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture
def ada() -> Client:
    """Ada's browser."""
    return doors.browser_of(given.a_user())


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data


def page_of(client: Client, path: str, status: int = 200) -> str:
    """The text of a page."""
    answer = client.get(path)
    assert answer.status_code == status
    return str(answer.content.decode())


# ---------------------------------------------------------------------------------------------------------------- list
def test_an_empty_grid_explains_itself(ada: Client) -> None:
    page = page_of(ada, "/")
    assert "No tasks yet" in page
    assert "No nodes yet" in page
    assert "No node has joined" in page_of(ada, "/nodes/")


def test_the_list_says_verdicts_in_words_and_colours_newest_first(ada: Client) -> None:
    now = timezone.now()
    _, attempt, order = given.running(now - timedelta(minutes=2), name="too big")
    given.finished(order, attempt.node, now, oom_kills=1, exit_code=137)
    given.a_task(now, name="next one")
    given.a_node(now)
    page = page_of(ada, "/")
    assert page.index("next one") < page.index("too big")
    assert '<span class="badge bad">memory limit</span>' in page
    assert '<span class="badge idle">queued</span>' in page
    assert "1 of 1 node online" in page


def test_filters_and_pages_live_in_the_address(ada: Client) -> None:
    for number in range(60):
        given.a_task(timezone.now(), name=f"sweep-{number:02}")
    first = page_of(ada, "/")
    assert "sweep-59" in first
    assert "sweep-09" not in first
    (older,) = [attrs["href"] for tag, attrs in Elements(first).found if attrs.get("rel") == "next"]
    rest = page_of(ada, f"/{older}")
    assert "sweep-09" in rest
    assert "sweep-59" not in rest
    assert "sweep-42" in page_of(ada, "/?text=sweep-42")
    assert "sweep-41" not in page_of(ada, "/?text=sweep-42")
    assert "No task fits" in page_of(ada, "/?state=running")
    assert "sweep-59" in page_of(ada, "/?state=nonsense")


def test_people_see_their_own_tasks_and_operators_see_whose_they_are(ada: Client) -> None:
    given.a_task(timezone.now(), name="mine")
    assert "mine" not in page_of(doors.browser_of(given.a_user("bob")), "/")
    operator = page_of(doors.browser_of(given.a_user("root", staff=True)), "/")
    assert "mine" in operator
    assert '<td data-label="Owner">ada</td>' in operator
    assert "Owner" not in page_of(ada, "/")


# ---------------------------------------------------------------------------------------------------------------- task
def test_a_finished_task_tells_verdict_reason_phases_files_and_use(ada: Client) -> None:
    now = timezone.now()
    task, attempt, order = given.running(now)
    logs.append(attempt.id, "stdout", 0, b"hello <b>there</b>\n")
    outcome = given.an_outcome(order, {"out/a b.txt": b"x" * 2048}).model_copy(
        update={
            "usage": Usage(wall_seconds=2.3, cpu_seconds=1.8, memory_peak_bytes=9 * 1024**2),
            "phases": PhaseTimes(queue=0.5, pull=1.5, run=2.0),
        }
    )
    outcomes.accept(attempt.node, outcome, now)
    page = page_of(ada, f"/tasks/{task.id}/")
    assert '<span class="badge ok">succeeded</span>' in page
    assert "Exit 0 after 2.3s." in page
    widths = [attrs["width"] for tag, attrs in Elements(page).found if tag == "rect"]
    assert widths == ["125.0", "375.0", "500.0"]
    assert f'href="/api/v1/tasks/{task.id}/files/out/a%20b.txt"' in page
    assert "2K" in page
    assert "9M" in page
    assert "hello &lt;b&gt;there&lt;/b&gt;" in page
    assert "Cancel the task" not in page


def test_a_waiting_task_says_why_it_waits(ada: Client) -> None:
    now = timezone.now()
    node = given.a_node(now)
    given.taken(given.assigned(given.a_task(now, limits={"cpus": 4, "memory": "64M"}), node, now), now)
    task = given.a_task(now, limits={"cpus": 4, "memory": "64M"})
    page = page_of(ada, f"/tasks/{task.id}/")
    assert "0 of 4 cpus are free" in page
    assert "Place 1 of 1 in the queue." in page


def test_a_running_task_shows_its_log_and_where_it_goes_on(ada: Client) -> None:
    task, attempt, _ = given.running(timezone.now())
    logs.append(attempt.id, "stdout", 0, b"x" * 70_000)
    page = Elements(page_of(ada, f"/tasks/{task.id}/"))
    (log,) = [attrs for tag, attrs in page.found if attrs.get("id") == "log"]
    assert (log["data-offset"], log["data-attempt"]) == ("70000", attempt.id)
    assert "data-complete" not in log
    assert "Load earlier output" in page.text
    assert [attrs["data-events"] for tag, attrs in page.found if tag == "body"] == [f"/api/v1/events?task={task.id}"]


def test_every_attempt_is_listed_with_its_end(ada: Client) -> None:
    now = timezone.now()
    task, attempt, order = given.running(now)
    fault = {"kind": "runtime_error", "message": "no space left"}
    given.finished(order, attempt.node, now, exit_code=None, fault=fault)
    task.refresh_from_db()
    assert task.state in ("queued", "waiting")
    assert records.promote(now + timedelta(hours=1)) == (1 if task.state == "waiting" else 0)
    given.assigned(task, given.a_node(now, "beta"), now)
    page = page_of(ada, f"/tasks/{task.id}/")
    assert "runtime error" in page
    assert "beta" in page


def test_a_task_is_cancelled_from_its_page_with_a_reason(ada: Client) -> None:
    task = given.a_task(timezone.now())
    answer = ada.post(f"/tasks/{task.id}/cancel/", {"reason": "wrong input"}, follow=True)
    assert "It is being cancelled." in answer.content.decode()
    assert "Cancelled by ada: wrong input." in answer.content.decode()
    again = ada.post(f"/tasks/{task.id}/cancel/", {"reason": ""}, follow=True)
    assert again.status_code == 200


def test_a_task_is_removed_from_its_page_once_it_has_ended(ada: Client) -> None:
    now = timezone.now()
    waits, over = given.a_task(now), given.a_task(now, name="old one")
    records.cancel(over, by="ada", reason="", now=now)
    assert "Remove for good" in page_of(ada, f"/tasks/{over.id}/")
    assert "Remove for good" not in page_of(ada, f"/tasks/{waits.id}/")
    assert "has not ended" in ada.post(f"/tasks/{waits.id}/remove/", follow=True).content.decode()
    bob = doors.browser_of(given.a_user("bob"))
    assert bob.post(f"/tasks/{over.id}/remove/").status_code == 404
    assert "old one was removed." in ada.post(f"/tasks/{over.id}/remove/", follow=True).content.decode()
    assert ada.get(f"/tasks/{over.id}/").status_code == 404


def test_a_task_of_somebody_else_is_not_there(ada: Client) -> None:
    task = given.a_task(timezone.now(), owner=given.a_user("bob"))
    assert "There is nothing here" in page_of(ada, f"/tasks/{task.id}/", 404)
    assert ada.post(f"/tasks/{task.id}/cancel/").status_code == 404
    task.refresh_from_db()
    assert task.state == "queued"


def test_nothing_that_a_stranger_wrote_comes_alive(ada: Client) -> None:
    now = timezone.now()
    task, attempt, order = given.running(now, name=EVIL, args=["echo", EVIL], labels={EVIL: EVIL}, stdout="o.txt")
    logs.append(attempt.id, "stdout", 0, EVIL.encode())
    outcomes.accept(attempt.node, given.an_outcome(order, {EVIL.replace("/", ""): b"x"}, exit_code=1), now)
    cancelled = given.a_task(now, name=EVIL)
    records.cancel(cancelled, by="ada", reason=EVIL, now=now)
    for path in ("/", f"/tasks/{task.id}/", f"/tasks/{cancelled.id}/", f"/?text={EVIL}", "/nodes/"):
        page = Elements(page_of(ada, path))
        loaded = [str(attrs.get("src")) for tag, attrs in page.found if tag in ("script", "img")]
        assert loaded
        assert all(src.startswith("/static/") for src in loaded)
        assert not [tag for tag, attrs in page.found if any(name.startswith("on") for name in attrs)]


# -------------------------------------------------------------------------------------------------------------- submit
SPEC = {"image": "busybox", "args": ["cat", "in/a.txt"], "files": {"in/a.txt": None, "run": "bin/run"}}


def submitted(client: Client, **fields: Any) -> Any:
    """The answer to the form."""
    return client.post("/submit/", {"key": "k1", **fields})


def chosen(client: Client, folder: dict[str, str], **fields: str) -> Any:
    """The answer to the form with a chosen folder, its files sent as browsers do: with their paths."""
    files = [("folder", (path, content.encode())) for path, content in folder.items()]
    request = httpx.Request("POST", "http://localhost/submit/", data={"key": "k1", **fields}, files=files)
    return client.post("/submit/", request.read(), content_type=request.headers["Content-Type"])


def the_task() -> Task:
    """The one task that there is."""
    return Task.objects.get()


def test_a_folder_becomes_a_task_with_its_files_under_their_paths(ada: Client) -> None:
    folder = {"task.json": json.dumps(SPEC), "in/a.txt": "1 2\n", "bin/run": "#!/bin/sh\n"}
    answer = chosen(ada, {f"week3/{path}": content for path, content in folder.items()})
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/tasks/{the_task().id}/")
    assert the_task().name == "week3"
    assert sorted(InputFile.objects.values_list("path", "blob__size")) == [("in/a.txt", 4), ("run", 10)]


def a_zip(prefix: str = "") -> bytes:
    """A zip of the folder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in (("task.json", json.dumps(SPEC)), ("in/a.txt", "1 2\n"), ("bin/run", "#!/bin/sh\n")):
            info = zipfile.ZipInfo(prefix + name)
            info.external_attr = (0o100755 if name == "bin/run" else 0o100644) << 16
            archive.writestr(info, content)
    return out.getvalue()


@pytest.mark.parametrize(("prefix", "name"), [("", "my-task"), ("inner/", "inner")])
def test_an_archive_becomes_a_task_and_programs_stay_programs(ada: Client, prefix: str, name: str) -> None:
    assert submitted(ada, archive=SimpleUploadedFile("my-task.tar.zip", a_zip(prefix))).status_code == 302
    assert the_task().name == name
    assert InputFile.objects.get(path="run").executable
    assert not InputFile.objects.get(path="in/a.txt").executable


def test_a_pasted_description_becomes_a_task_with_the_files_beside_it(ada: Client) -> None:
    spec = json.dumps({"image": "busybox", "args": ["cat", "a.txt"], "files": {"a.txt": None}})
    answer = submitted(ada, spec=spec, inputs=[SimpleUploadedFile("a.txt", b"hi")], name="pasted")
    assert answer.status_code == 302
    assert (the_task().name, InputFile.objects.get().path) == ("pasted", "a.txt")


def test_the_same_form_sent_twice_makes_one_task(ada: Client) -> None:
    spec = json.dumps(given.a_spec())
    assert submitted(ada, spec=spec).headers["Location"] == submitted(ada, spec=spec).headers["Location"]
    assert Task.objects.count() == 1


def test_every_fault_is_listed_next_to_the_form_which_keeps_its_text(ada: Client) -> None:
    spec = '{"image": "busybox", "argz": [], "limits": {"memory": "64X"}, "files": {"a.txt": null}}'
    answer = submitted(ada, spec=spec)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "3 things to mend" in page
    assert "<code>argz</code> unknown key" in page
    assert "<code>limits.memory</code>" in page
    assert "<code>files.a.txt</code>" in page
    assert "argz" in Elements(page).text
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Choose a folder or an archive"),
        ({"spec": "{}", "archive": SimpleUploadedFile("a.zip", b"x")}, "one way at a time"),
        ({"spec": "{"}, "is not JSON"),
        ({"spec": "[]"}, "must be an object"),
        ({"archive": SimpleUploadedFile("a.zip", b"PK no zip")}, "cut off"),
        ({"archive": SimpleUploadedFile("a.tar", b"hello")}, "cannot be read"),
        ({"archive": SimpleUploadedFile("a.tar", b"hello"), "inputs": SimpleUploadedFile("b", b"x")}, "Single files"),
    ],
)
def test_what_is_no_task_is_refused_in_words(ada: Client, fields: dict[str, Any], words: str) -> None:
    answer = submitted(ada, **fields)
    assert answer.status_code == 422
    assert words in Elements(answer.content.decode()).text
    assert not Task.objects.exists()


@pytest.mark.parametrize("path", ["../../evil", "/etc/cron.d/evil", "w/../../evil", "w/a\\b"])
def test_a_browser_that_lies_about_paths_writes_nothing_outside(ada: Client, path: str, grid_dir: Path) -> None:
    answer = chosen(ada, {"w/task.json": json.dumps(given.a_spec()), path: "x"})
    assert answer.status_code == 422
    assert [one.name for one in grid_dir.iterdir() if one.name not in ("blobs", "logs")] == ["uploads"]
    assert list((grid_dir / "uploads").iterdir()) == []


def test_an_archive_with_a_link_is_refused(ada: Client) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        link = tarfile.TarInfo("task.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    answer = submitted(ada, archive=SimpleUploadedFile("a.tgz", out.getvalue()))
    assert "link or a device" in answer.content.decode()


def test_the_form_needs_its_csrf_token_even_with_a_folder() -> None:
    browser = doors.browser_of(given.a_user(), csrf=True)
    folder = {"w/task.json": json.dumps(given.a_spec())}
    answer = chosen(browser, folder)
    assert answer.status_code == 403
    assert "too old" in answer.content.decode()
    browser.get("/submit/")
    assert chosen(browser, folder, csrfmiddlewaretoken=browser.cookies["csrftoken"].value).status_code == 302


# ------------------------------------------------------------------------------------------------------------- policy
def test_pages_allow_no_scripts_but_our_own_file_and_no_frames(ada: Client) -> None:
    headers = ada.get("/").headers
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    style = ada.get("/static/grid/grid.css")
    style.close()
    assert style.status_code == 200


@pytest.mark.parametrize("path", ["/", "/submit/", "/nodes/"])
def test_pages_have_no_inline_style_or_script_that_the_policy_would_stop(ada: Client, path: str) -> None:
    given.running(timezone.now())
    for tag, attrs in Elements(page_of(ada, path)).found:
        assert "style" not in attrs
        assert tag != "style"
        assert tag != "script" or attrs.get("src")


def test_every_field_of_every_form_has_a_label(ada: Client) -> None:
    task = given.a_task(timezone.now())
    for path in ("/", "/submit/", f"/tasks/{task.id}/"):
        found = Elements(page_of(ada, path)).found
        labelled = {attrs.get("for") for tag, attrs in found if tag == "label"}
        fields = [attrs for tag, attrs in found if tag in ("input", "select", "textarea")]
        assert all(one.get("id") in labelled for one in fields if one.get("type") != "hidden"), path
