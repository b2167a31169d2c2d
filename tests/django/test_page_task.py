"""The page of a task: how it went in pictures, its output however long, its files safely, and running it again."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from grid.core import logs, outcomes
from grid.core.again import again, copy
from grid.core.models import Attempt, Delivery, DeliveryTry, InputFile, Task
from grid.core.reading import explain
from tasks.errors import Conflict, NotAllowed, SpecError
from tasks.limits import Limits
from tasks.outcome import MOST_POINTS, Usage, UsagePoint
from tests.django import builders as given
from tests.django import doors
from tests.django.test_pages import EVIL, Elements, page_of
from webapp import plots
from webapp.views.logs import WINDOW_BYTES

pytestmark = pytest.mark.django_db

MEBI = 1024**2
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


@pytest.fixture
def ada() -> Client:
    """Ada's browser."""
    return doors.browser_of(given.a_user())


def a_series(points: int = 5, memory: int = 10 * MEBI) -> Usage:
    """The use of a program that kept one processor busy and wrote a mebibyte each second."""
    series = tuple(
        UsagePoint(t=t, memory_bytes=memory, cpu_seconds=t, pids=2, io_read_bytes=0, io_write_bytes=t * MEBI)
        for t in range(1, points + 1)
    )
    return Usage(wall_seconds=points, cpu_seconds=points, memory_peak_bytes=memory, series=series)


def ended(files: dict[str, bytes] | None = None, usage: Usage | None = None, **changes: object) -> Task:
    """A task of ada's that ended with exit code 0 and left these files."""
    now = timezone.now()
    task, attempt, order = given.running(now, **changes)
    outcome = given.an_outcome(order, files).model_copy(update={"usage": usage or Usage(wall_seconds=1)})
    outcomes.accept(attempt.node, outcome, now)
    task.refresh_from_db()
    return task


# --------------------------------------------------------------------------------------------------------------- again
def test_a_task_is_run_again_by_one_button_that_makes_one_task_however_often_it_is_pressed(ada: Client) -> None:
    old = ended(name="sum")
    for _ in range(2):
        answer = ada.post(f"/tasks/{old.id}/again/", {"key": "k1"})
    new = Task.objects.exclude(id=old.id).get()
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/tasks/{new.id}/")
    assert (new.name, new.state, new.labels) == ("sum", "queued", {"retry_of": old.id})
    assert {**new.spec, "labels": {}} == {**old.spec, "labels": {}}
    assert "This is sum, run again." in page_of(ada, f"/tasks/{new.id}/")


def test_a_task_is_run_again_with_changes_to_its_description(ada: Client) -> None:
    old = ended()
    form = Elements(page_of(ada, f"/tasks/{old.id}/again/"))
    assert [attrs["value"] for _, attrs in form.found if attrs.get("name") == "args"] == ["uname"]
    changed = {**old.spec, "args": ["uname", "-a"], "files": {"new.txt": {"content": "hi"}}}
    ada.post(f"/tasks/{old.id}/again/", {"key": "k1", "spec": json.dumps(changed)})
    new = Task.objects.exclude(id=old.id).get()
    assert new.spec["args"] == ["uname", "-a"]
    assert InputFile.objects.get(task=new).path == "new.txt"


def test_a_changed_description_with_faults_is_shown_again_with_all_of_them(ada: Client) -> None:
    old = ended()
    text = '{"image": "busybox", "argz": [], "limits": {"memory": "64X"}}'
    answer = ada.post(f"/tasks/{old.id}/again/", {"key": "k1", "spec": text})
    page = Elements(answer.content.decode())
    assert answer.status_code == 422
    assert "2 things to mend" in page.text
    assert "argz" in page.text
    assert text in page.text
    empty = ada.post(f"/tasks/{old.id}/again/", {"key": "k2", "spec": ""})
    assert (empty.status_code, Task.objects.count()) == (422, 1)


def test_who_manages_a_task_copies_it_under_their_own_name_with_its_files() -> None:
    now = timezone.now()
    old = given.a_task(now, files={"in.txt": {"content": "secret\n"}})
    root = given.a_user("root", staff=True)
    with pytest.raises(SpecError):
        given.a_task(now, owner=root, files=old.spec["files"])
    bob = given.a_user("bob")
    with pytest.raises(SpecError, match="not yours"):
        copy(old, user=bob, key="k", now=now)
    new = copy(old, user=root, key="k", now=now)
    assert (new.owner, new.spec["files"]) == (root, old.spec["files"])
    # A copy of a copy names the one that it was made of, and no other.
    assert copy(new, user=root, key="k", now=now).labels == {"copy_of": new.id}


def test_a_retry_stays_with_the_owner_whoever_asks_and_who_may_only_look_gets_none() -> None:
    now = timezone.now()
    old = ended()
    root, bob = given.a_user("root", staff=True), given.a_user("bob")
    new = again(old, user=root, key="k", now=now)
    assert (new.owner, new.labels) == (old.owner, {"retry_of": old.id})
    with pytest.raises(NotAllowed, match="as a copy"):
        again(old, user=bob, key="k", now=now)
    with pytest.raises(Conflict, match="it is queued"):
        again(new, user=root, key="k", now=now)


def test_a_task_of_somebody_else_cannot_be_run_again() -> None:
    old = ended()
    bob = doors.browser_of(given.a_user("bob"))
    assert bob.post(f"/tasks/{old.id}/again/", {"key": "k"}).status_code == 404
    assert Task.objects.count() == 1


# --------------------------------------------------------------------------------------------------------------- plots
def test_what_a_task_used_is_drawn_with_its_limits_and_told_in_a_table(ada: Client) -> None:
    task = ended(usage=a_series(memory=60 * MEBI))
    page = Elements(page_of(ada, f"/tasks/{task.id}/"))
    lines = [attrs for tag, attrs in page.found if tag == "polyline"]
    assert [attrs["class"] for attrs in lines] == ["memory", "cpus", "pids", "read", "written"]
    # Memory and processors have a limit that is near; processes have none, or one far above.
    assert len([tag for tag, _ in page.found if tag == "line"]) == 2
    assert "Memory over 5s: up to 60M; limit 64M" in page.text
    assert "written up to 1M/s" in page.text


def test_a_task_too_short_for_a_series_has_no_plots(ada: Client) -> None:
    assert "polyline" not in page_of(ada, f"/tasks/{ended(usage=a_series(1)).id}/")


def test_plots_stay_in_their_picture_and_a_far_limit_is_only_told() -> None:
    found = plots.pictures(a_series(MOST_POINTS), Limits(memory=4096 * MEBI, cpus=1))
    assert found is not None
    memory, cpus, *_ = found.plots
    assert (memory.limit_y, memory.limit) == (None, "limit 4G, far above")
    assert cpus.limit_y is not None
    assert cpus.summary == "up to 1; limit 1"
    for plot in found.plots:
        for line in plot.lines:
            spots = [tuple(map(float, spot.split(","))) for spot in line.points.split()]
            assert all(0 <= x <= plots.WIDTH and 0 <= y <= plots.HEIGHT for x, y in spots)
    assert len(found.rows) <= plots.MOST_ROWS
    assert found.rows[-1].at == found.end == "5min"


def test_counters_that_fall_or_are_unknown_are_drawn_as_nothing() -> None:
    series = (
        UsagePoint(t=1, memory_bytes=0, cpu_seconds=2, pids=0),
        UsagePoint(t=2, memory_bytes=0, cpu_seconds=1, pids=0),
    )
    found = plots.pictures(Usage(wall_seconds=2, series=series), Limits())
    assert found is not None
    assert [plot.name for plot in found.plots] == ["memory", "cpus", "pids"]
    assert found.rows[-1].read == ""


# ---------------------------------------------------------------------------------------------------------------- logs
def test_of_a_long_log_the_end_is_loaded_and_earlier_parts_on_demand(ada: Client) -> None:
    task, attempt, _ = given.running(timezone.now())
    text = "".join(f"line {number:06}\n" for number in range(20_000))
    logs.append(attempt.id, "stdout", 0, text.encode())
    page = page_of(ada, f"/tasks/{task.id}/")
    assert len(page) < 2 * WINDOW_BYTES
    assert "line 019999" in page
    assert "line 000000" not in page
    seen, hops = page, 0
    while "line 000000" not in seen:
        (earlier,) = [str(attrs["href"]) for _, attrs in Elements(seen).found if attrs.get("id") == "log-earlier"]
        seen = page_of(ada, f"/tasks/{task.id}/{earlier}")
        hops += 1
        assert hops < 10
    assert "To the end" in seen


def test_a_window_begins_and_ends_with_whole_characters(ada: Client) -> None:
    task, attempt, _ = given.running(timezone.now())
    logs.append(attempt.id, "stdout", 0, "€".encode() * 30_000 + b"\xe2\x82")
    page = Elements(page_of(ada, f"/tasks/{task.id}/"))
    assert "\ufffd" not in page.text
    (log,) = [attrs for _, attrs in page.found if attrs.get("id") == "log"]
    assert log["data-offset"] == "90000"


def test_the_output_is_searched_forwards_and_backwards_without_scripts(ada: Client) -> None:
    task = ended()
    lines = [f"step {number}" + (" ERROR <b>" if number in (100, 19_000) else "") for number in range(20_000)]
    logs.append(str(task.attempt_id), "stdout", 0, "\n".join(lines).encode())
    first = page_of(ada, f"/tasks/{task.id}/?find=error+<b>")
    assert "step 100 <mark" in first.replace("\n", " ")
    assert '<mark class="here" id="hit">ERROR &lt;b&gt;</mark>' in first
    following = page_of(ada, f"/tasks/{task.id}/{_way(first, 'next')}")
    assert "step 19000 <mark" in following
    assert "step 100 " not in following
    assert "step 100 <mark" in page_of(ada, f"/tasks/{task.id}/{_way(following, 'prev')}")
    end = page_of(ada, f"/tasks/{task.id}/{_way(following, 'next')}")
    assert "There is none after that one." in end
    assert "Nothing of that is in this log." in page_of(ada, f"/tasks/{task.id}/?find=warning")


def _way(page: str, rel: str) -> str:
    (found,) = [str(attrs["href"]) for tag, attrs in Elements(page).found if tag == "a" and attrs.get("rel") == rel]
    return found


def test_a_search_looks_through_so_much_and_goes_on_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SEARCH_BYTES", 1000)
    logs.append("a1", "stdout", 0, b"needle" + b"." * 2500 + b"needle")
    first = logs.find("a1", "stdout", b"NEEDLE", 1)
    assert (first.offset, first.looked_to, first.over) == (None, 1001, False)
    assert logs.find("a1", "stdout", b"needle", 2001).offset == 2506
    assert logs.find("a1", "stdout", b"needle", 2506, backward=True).over is False
    assert logs.find("a1", "stdout", b"needle", 1000, backward=True).offset == 0
    assert logs.find("a1", "stdout", b"needle", 2507).over
    assert logs.find("none", "stdout", b"x", 0).over


def test_an_earlier_attempt_keeps_its_output_and_all_of_it_can_be_saved(ada: Client) -> None:
    now = timezone.now()
    task, attempt, order = given.running(now)
    logs.append(attempt.id, "stderr", 0, b"first try\n" * 100_000)
    fault = {"kind": "runtime_error", "message": "no space left"}
    given.finished(order, attempt.node, now, exit_code=None, fault=fault)
    page = page_of(ada, f"/tasks/{task.id}/?attempt=1&stream=stderr")
    assert "first try" in page
    answer = ada.get(f"/tasks/{task.id}/log/stderr/?attempt=1")
    assert answer.getvalue() == b"first try\n" * 100_000
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert ada.get(f"/tasks/{task.id}/log/stdin/").status_code == 404
    assert ada.get(f"/tasks/{task.id}/log/stdout/?attempt=9").status_code == 404


@pytest.mark.parametrize(
    "query", ["from=-1", "from=x", "at=x&find=a", "attempt=99", "from=999999999999999", "find=%00"]
)
def test_an_address_that_makes_no_sense_still_shows_the_page(ada: Client, query: str) -> None:
    task = ended()
    logs.append(str(task.attempt_id), "stdout", 0, b"hello\n")
    page_of(ada, f"/tasks/{task.id}/?{query}")


# --------------------------------------------------------------------------------------------------------------- files
def test_text_is_shown_as_text_and_never_comes_alive(ada: Client) -> None:
    task = ended({"out.html": EVIL.encode(), "big.txt": b"x" * 300_000, "a.bin": b"\0\1", "pic.svg": b"<svg/>"})
    page = page_of(ada, f"/tasks/{task.id}/file/?path=out.html")
    assert EVIL in Elements(page).text
    assert "<script>alert" not in page
    assert "only in the download" in page_of(ada, f"/tasks/{task.id}/file/?path=big.txt")
    assert "neither text nor a picture" in page_of(ada, f"/tasks/{task.id}/file/?path=a.bin")
    assert "&lt;svg/&gt;" in page_of(ada, f"/tasks/{task.id}/file/?path=pic.svg")


def test_a_picture_is_one_by_its_content_and_comes_from_where_nothing_runs(ada: Client) -> None:
    task = ended({"plot.png": PNG, "fake.png": b"<script>alert(1)</script>", "hidden.txt": b"GIF89a...."})
    answer = ada.get(f"/tasks/{task.id}/picture/?path=plot.png")
    assert answer.getvalue() == PNG
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert ada.get(f"/tasks/{task.id}/picture/?path=fake.png").status_code == 404
    gif = ada.get(f"/tasks/{task.id}/picture/?path=hidden.txt")
    assert gif.getvalue() == b"GIF89a...."
    assert gif.headers["Content-Type"] == "image/gif"
    images = [attrs for tag, attrs in Elements(page_of(ada, f"/tasks/{task.id}/")).found if tag == "img"]
    assert [attrs["alt"] for attrs in images if attrs["alt"]] == ["fake.png", "plot.png"]  # the brand's says nothing
    bob = doors.browser_of(given.a_user("bob"))
    assert bob.get(f"/tasks/{task.id}/picture/?path=plot.png").status_code == 404
    assert bob.get(f"/tasks/{task.id}/file/?path=plot.png").status_code == 404


def test_names_with_anything_in_them_are_found_by_their_links(ada: Client) -> None:
    name = "a b/?x=1&y#%2F'\"<é>.txt"
    task = ended({name: b"found me"})
    links = [str(attrs.get("href")) for _, attrs in Elements(page_of(ada, f"/tasks/{task.id}/")).found]
    (link,) = [link for link in links if "/file/" in link]
    assert "found me" in page_of(ada, link)


# ------------------------------------------------------------------------------------------------------------- waiting
def test_an_estimate_is_made_of_what_runs_and_how_long_the_last_took() -> None:
    now = timezone.now()
    for _ in range(4):
        ended()
    Attempt.objects.update(started_at=now - timedelta(seconds=40), ended_at=now)
    node = given.a_node(now)
    for _ in range(2):
        given.taken(given.assigned(given.a_task(now, limits={"cpus": 2}), node, now), now)
    given.a_task(now, limits={"cpus": 4})
    found = explain.explain(given.a_task(now, limits={"cpus": 4}), now)
    assert (found.position, found.estimate_seconds) == (2, 40.0)
    assert "2 run now, and the last 4 took 40s" in found.estimate


def test_without_anything_to_go_by_there_is_no_estimate(ada: Client) -> None:
    task = given.a_task(timezone.now())
    assert explain.explain(task, timezone.now()).estimate_seconds is None
    assert "Estimate" not in page_of(ada, f"/tasks/{task.id}/")


# -------------------------------------------------------------------------------------------------------------- around
def test_who_may_only_look_is_offered_no_cancel_and_the_commands_fit_the_state(ada: Client) -> None:
    running, _, _ = given.running(timezone.now())
    page = page_of(ada, f"/tasks/{running.id}/")
    assert f"grid cancel {running.id}" in page
    assert "Cancel the task" in page
    assert f"grid result {ended().id}" not in page


def test_a_page_takes_the_same_number_of_queries_however_much_there_is(ada: Client) -> None:
    small, large = ended({"a": b"1"}), ended({f"f{number}": b"%d" % number for number in range(60)})
    assert _queries(ada, small) == _queries(ada, large) <= 16


def _queries(client: Client, task: Task) -> int:
    with CaptureQueriesContext(connection) as found:
        page_of(client, f"/tasks/{task.id}/")
    return len(found)


def test_files_of_an_earlier_attempt_are_shown_as_safely_as_those_of_the_last(ada: Client) -> None:
    now = timezone.now()
    task, attempt, order = given.running(now, retry={"attempts": 2})
    first = {"out.html": EVIL.encode(), "plot.png": PNG, "only.txt": b"first"}
    outcomes.accept(attempt.node, given.an_outcome(order, first, exit_code=1), now)
    second = given.assigned(task, attempt.node, now)
    outcomes.accept(attempt.node, given.an_outcome(given.taken(second, now), {"out.html": b"second"}), now)
    address = f"/tasks/{task.id}/"
    page = page_of(ada, f"{address}?attempt=1")
    assert "Files of attempt 1" in page
    assert f'href="{address}file/?path=only.txt&amp;attempt=1"' in page
    assert "only.txt" not in page_of(ada, address)
    old = page_of(ada, f"{address}file/?path=out.html&attempt=1")
    assert EVIL in Elements(old).text
    assert "<script>alert" not in old
    assert "second" in page_of(ada, f"{address}file/?path=out.html")
    answer = ada.get(f"{address}picture/?path=plot.png&attempt=1")
    assert answer.getvalue() == PNG
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    saved = ada.get(f"/api/v1{address}files/only.txt?attempt=1")
    assert saved.getvalue() == b"first"
    for path in (f"{address}file/?path=only.txt", f"{address}file/?path=only.txt&attempt=9"):
        assert ada.get(path).status_code == 404
    bob = doors.browser_of(given.a_user("bob"))
    assert bob.get(f"{address}file/?path=only.txt&attempt=1").status_code == 404


def test_to_whom_the_end_was_told_stands_on_the_page(ada: Client) -> None:
    now = timezone.now()
    task = ended()
    Task.objects.filter(id=task.id).update(spec={**task.spec, "callback_url": "https://host.example/hook"})
    told = Delivery.objects.create(
        task=task,
        owner=task.owner,
        url="https://host.example/hook",
        state="due",
        made_at=now,
        next_at=now,
        tries_left=3,
    )
    DeliveryTry.objects.create(delivery=told, number=1, at=now, seconds=0.1, status=503)
    page = page_of(ada, f"/tasks/{task.id}/")
    assert '<span class="badge run">due</span> <span class="break">https://host.example/hook</span>' in page
    assert "status 503" in page
    assert "3 more at most" in page
