"""What is kept for how long; that the disk is really freed; and that no content goes while somebody relies on it."""

from __future__ import annotations

import io
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from grid.core import bulk, intake, logs, outcomes
from grid.core.bulk import Wish
from grid.core.conf import conf
from grid.core.contents import sweeping
from grid.core.contents.store import get_store
from grid.core.contents.sweeping import Grace
from grid.core.models import Attempt, Blob, BlobOwner, Event, InputFile, OutputFile, Task
from grid.core.people import access, standing
from grid.core.upkeep import removal, retention
from tasks.errors import Conflict, SpecError
from tasks.terms import Rules
from tests.django import builders as given
from tests.django.test_races import at_once

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
AT_ONCE = Grace(timedelta(0), timedelta(0))
MIB = 1024**2


def keep(settings: LazySettings, **days: object) -> None:
    """Set the server's retention."""
    settings.GRID = settings.GRID.model_copy(update={f"retention_{name}": value for name, value in days.items()})


def ended(now: datetime, *, size: int = 1000, exit_code: int = 0, mark: bytes = b"i") -> Task:
    """A task of ada's that took a file in, wrote a log, brought a file back, and has ended."""
    stored = intake.upload(given.a_user(), [mark * size], None, now)
    task, attempt, order = given.running(now, files={"in": {"reference": stored.sha256}})
    logs.append(attempt.id, "stdout", 0, b"l" * size)
    outcome = given.an_outcome(order, {"out": mark + b"o" * size}, exit_code=exit_code)
    outcomes.accept(attempt.node, outcome, now)
    task.refresh_from_db()
    return task


def left(task: Task) -> set[str]:
    """What of a task is still there."""
    attempts = list(Attempt.objects.filter(task_id=task.id))
    found = {"tasks"} if Task.objects.filter(id=task.id).exists() else set()
    found |= {"files"} if OutputFile.objects.filter(attempt__in=attempts).exists() else set()
    found |= {"inputs"} if InputFile.objects.filter(task_id=task.id).exists() else set()
    return found | ({"logs"} if any(logs.read(one, "stdout", 0, 1).size for one in attempts) else set())


def bytes_of(sha256: str) -> bytes:
    """A content as it is in the store."""
    with get_store().open(sha256) as file:
        return file.read()


def on_disk(folder: Path) -> int:
    """The bytes that the files under a folder take."""
    return sum(
        path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and "blobs" in path.parts
    ) + (sum(path.stat().st_blocks * 512 for path in (folder / "logs").rglob("*") if path.is_file()))


def test_parts_go_after_their_days_by_verdict_class(settings: LazySettings) -> None:
    good, bad, fresh = ended(NOW), ended(NOW, exit_code=1, mark=b"j"), ended(NOW + 3 * DAY, mark=b"k")
    keep(settings, files={"success": 2}, logs={"*": 3}, inputs={"user": 1}, tasks={"success": 10})
    assert retention.walk(conf(), NOW + DAY / 2) == retention.Freed()
    assert retention.walk(conf(), NOW + 4 * DAY, dry=True).logs == 2
    assert left(good) == left(bad) == {"tasks", "files", "inputs", "logs"}
    freed = retention.walk(conf(), NOW + 4 * DAY)
    assert (freed.files, freed.logs, freed.inputs, freed.tasks) == (1, 2, 1, 0)
    assert left(good) == {"tasks", "inputs"}
    assert left(bad) == {"tasks", "files"}
    assert left(fresh) == {"tasks", "files", "inputs", "logs"}
    assert sorted(Event.objects.filter(task=good, kind="removed").values_list("data__what", flat=True)) == [
        "files",
        "logs",
    ]
    assert retention.walk(conf(), NOW + 4 * DAY).files == 0
    assert retention.walk(conf(), NOW + 11 * DAY).tasks == 1
    assert left(good) == set()


def test_a_group_may_keep_longer_and_a_user_shorter(settings: LazySettings) -> None:
    task, ada = ended(NOW), given.a_user()
    keep(settings, tasks={"*": 1})
    group = Group.objects.create(name="archive")
    group.user_set.add(ada)
    standing.decide(group, Rules.model_validate({"retention": {"tasks": {"*": 100}}}), by="root", now=NOW)
    assert retention.walk(conf(), NOW + 50 * DAY).tasks == 0
    standing.decide(ada, Rules.model_validate({"retention": {"tasks": {"success": 20}}}), by="root", now=NOW)
    assert retention.walk(conf(), NOW + 50 * DAY).tasks == 1
    assert left(task) == set()


def test_the_disk_is_really_freed_and_what_others_use_stays(settings: LazySettings, grid_dir: Path) -> None:
    shared = ended(NOW, size=MIB, mark=b"s")
    base = on_disk(grid_dir)
    assert base > 3 * MIB
    for number in range(3):
        ended(NOW, size=MIB, mark=bytes([number]))
    same = intake.upload(given.a_user("bob"), [b"s" * MIB], None, NOW)
    kept = given.a_task(NOW, given.a_user("bob"), files={"x": {"reference": same.sha256}})
    full = on_disk(grid_dir)
    assert full > base + 9 * MIB
    keep(settings, tasks={"*": 1})
    assert retention.walk(conf(), NOW + 2 * DAY).tasks == 4
    freed = retention.walk(conf(), NOW + 2 * DAY + timedelta(minutes=2))
    assert freed.blobs == 7
    assert freed.bytes > 7 * MIB
    left_over = on_disk(grid_dir)
    assert MIB <= left_over < 1.1 * MIB
    assert full - left_over > 11 * MIB
    assert get_store().exists(same.sha256)
    assert InputFile.objects.get(task=kept).blob_id == same.sha256
    assert left(shared) == set()


def test_an_upload_that_no_task_uses_goes_after_its_grace_and_not_before(settings: LazySettings) -> None:
    keep(settings, unused_days=2.0)
    ada = given.a_user()
    stored = intake.upload(ada, [b"x"], None, NOW)
    retention.walk(conf(), NOW + DAY)
    assert access.missing_blobs(ada, [stored.sha256], NOW + DAY) == []  # asking keeps it
    for hours in (60, 61):
        retention.walk(conf(), NOW + timedelta(hours=hours))
    assert get_store().exists(stored.sha256)
    for hours in (80, 81):
        retention.walk(conf(), NOW + timedelta(hours=hours))
    assert not get_store().exists(stored.sha256)
    assert access.missing_blobs(ada, [stored.sha256], NOW + 4 * DAY) == [stored.sha256]
    with pytest.raises(SpecError, match="upload it first"):
        given.a_task(NOW + 4 * DAY, files={"x": {"reference": stored.sha256}})


def test_a_doomed_content_that_is_sent_again_stays() -> None:
    ada = given.a_user()
    stored = intake.upload(ada, [b"x"], None, NOW)
    sweeping.doom(NOW + DAY, AT_ONCE)
    assert access.missing_blobs(ada, [stored.sha256], NOW + DAY) == [stored.sha256]
    intake.upload(ada, [b"x"], None, NOW + DAY)
    assert sweeping.delete_doomed(NOW + DAY, AT_ONCE) == (0, 0)
    assert get_store().exists(stored.sha256)
    assert access.missing_blobs(ada, [stored.sha256], NOW + DAY) == []


def test_a_doomed_content_that_a_task_names_after_all_is_given_back() -> None:
    ada = given.a_user()
    stored = intake.upload(ada, [b"x"], None, NOW)
    sweeping.doom(NOW + DAY, AT_ONCE)
    # As a submit leaves it that had looked before the mark was set.
    task = given.a_task(NOW)
    InputFile.objects.create(task=task, path="x", blob_id=stored.sha256)
    assert sweeping.delete_doomed(NOW + DAY, AT_ONCE) == (0, 0)
    assert BlobOwner.objects.get().owner == ada
    assert Blob.objects.get().doomed_at is None
    assert get_store().exists(stored.sha256)


def test_bytes_that_went_before_a_crash_are_there_after_the_next_upload() -> None:
    ada = given.a_user()
    stored = intake.upload(ada, [b"x"], None, NOW)
    sweeping.doom(NOW + DAY, AT_ONCE)
    get_store().delete(stored.sha256)  # and the row was not deleted any more
    intake.upload(ada, [b"x"], None, NOW + DAY)
    assert bytes_of(stored.sha256) == b"x"
    assert sweeping.delete_doomed(NOW + 2 * DAY, AT_ONCE) == (0, 0)


def test_the_dispatcher_does_a_piece_at_a_time_and_then_pauses(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    keep(settings, logs={"*": 1}, pause_seconds=3600.0)
    tasks = [ended(NOW, mark=bytes([number])) for number in range(3)]
    later = NOW + 2 * DAY
    assert retention.step(conf(), later).logs == 2
    assert retention.step(conf(), later + timedelta(seconds=1)).logs == 1
    assert all(left(task) == {"tasks", "files", "inputs"} for task in tasks)
    ended(NOW, mark=b"z")
    assert retention.step(conf(), later + timedelta(seconds=2)).logs == 0
    assert retention.step(conf(), later + timedelta(seconds=3700)).logs >= 0
    assert retention.step(conf(), later + timedelta(seconds=3701)).logs + 1 > 0
    assert not any("logs" in left(task) for task in Task.objects.all())


def test_a_task_that_has_not_ended_is_never_removed(settings: LazySettings) -> None:
    keep(settings, tasks={"*": 0}, files={"*": 0}, logs={"*": 0}, inputs={"*": 0})
    task, attempt, _ = given.running(NOW, files={"x": {"content": "x"}})
    logs.append(attempt.id, "stdout", 0, b"l")
    retention.walk(conf(), NOW + 100 * DAY)
    assert left(task) == {"tasks", "inputs", "logs"}
    with pytest.raises(Conflict, match="cancel it first"):
        removal.remove(task, now=NOW)


def test_the_command_tells_what_it_would_do_and_does_it(settings: LazySettings) -> None:
    keep(settings, tasks={"*": 1})
    task = ended(timezone.now() - 2 * DAY)
    said = io.StringIO()
    call_command("retention", "--dry-run", stdout=said)
    assert "would remove" in said.getvalue()
    assert "tasks: 1" in said.getvalue()
    assert left(task)
    call_command("retention", stdout=said)
    assert not left(task)


@pytest.mark.django_db(transaction=True)
def test_threads_that_upload_submit_and_sweep_the_same_content_never_lose_it() -> None:
    """Each task that was made has its bytes. In earnest the grace is a minute and more."""
    ada, content = given.a_user(), b"the same content"
    given.a_node(NOW)
    done = threading.Event()
    made: list[str] = []
    refused = [0]
    grace = Grace(timedelta(seconds=1.5), timedelta(0))

    def sweep() -> None:
        while not done.is_set():
            now = timezone.now()
            sweeping.doom(now, grace)
            sweeping.delete_doomed(now, grace)
            time.sleep(0.01)
        connection.close()

    def use() -> None:
        for _ in range(4):
            now = timezone.now()
            stored = intake.upload(ada, [content], None, now)
            with suppress(SpecError):
                task = given.a_task(now, ada, files={"x": {"reference": stored.sha256}})
                assert bytes_of(stored.sha256) == content
                made.append(task.id)
                Task.objects.filter(id=task.id).update(state="cancelled", finished_at=now)
                if len(made) % 2:
                    removal.remove(task, now=NOW)
                time.sleep(1.6 if len(made) % 3 == 0 else 0.0)
                continue
            refused[0] += 1

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        at_once(*[use] * 4)
    finally:
        done.set()
        sweeper.join(60)
    assert (bool(made), refused[0]) == (True, 0)
    assert {bytes_of(row.blob_id) for row in InputFile.objects.all()} <= {content}


@pytest.mark.django_db(transaction=True)
def test_a_submit_that_comes_while_its_file_is_deleted_is_refused_with_words_or_keeps_it() -> None:
    """With no grace at all they do meet: then the submit says what to do, and nothing dangles."""
    ada = given.a_user()

    def submit(sha256: str, many: bool) -> str:
        spec = given.a_spec(name="x", files={"x": {"reference": sha256}})
        try:
            if many:
                bulk.submit_all(owner=ada, wishes=[Wish(spec)], contents={}, idempotency_key="", now=NOW)
            else:
                given.a_task(NOW, ada, files={"x": {"reference": sha256}})
        except SpecError as error:
            return str(error)
        return ""

    def sweep() -> str:
        far = timezone.now() + DAY
        sweeping.doom(far, AT_ONCE)
        sweeping.delete_doomed(far, AT_ONCE)
        return ""

    for number in range(10):
        stored = intake.upload(ada, [f"content {number}".encode()], None, NOW)
        _, said = at_once(sweep, partial(submit, stored.sha256, bool(number % 2)))
        assert not said or "upload it first" in said
    for row in InputFile.objects.all():
        assert get_store().exists(row.blob_id)
    for owner in BlobOwner.objects.all():
        assert get_store().exists(owner.blob_id)
